"""An installation of the release before, with data in it, is migrated as the README says."""

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.stack import ROOT, SQLITE

pytestmark = pytest.mark.once

BEFORE = (("billing_app", "0001"), ("files_app", "0001"), ("batches_app", "0002"))
DATA = """
INSERT INTO billing_app_account (id, name, is_enabled, weight, created_at) VALUES (1, 'acme', 1, 1, '2026-10-01');
INSERT INTO billing_app_price (id, model_name, input_price, output_price, batch_discount, currency, effective_from)
    VALUES (9, 'm', '0.150', '0.60', '1.0', 'USD', '2026-10-01');
INSERT INTO billing_app_usageentry (id, key, account_id, batch_id, model_name, price_id, requests, input_tokens,
    cached_tokens, output_tokens, reasoning_tokens, amount, created_at)
    VALUES (1, 'a', 1, 'batch_1', 'm', 9, 3, 10, 0, 5, 0, '0.25', '2026-10-31 23:59:59'),
           (2, 'b', 1, 'batch_1', 'm', 9, 1, 10, 0, 5, 0, '0.000000000000001', '2026-11-01 00:00:00');
INSERT INTO files_app_storedfile (id, public_id, account_id, purpose, filename, bytes, sha256, blob, created_at,
    deleted_at)
    VALUES (1, 'f1', 1, 'batch', 'x', 70, '', 'b1', '2026-10-01', NULL),
           (2, 'f2', 1, 'batch', 'x', 30, '', 'b2', '2026-10-01', '2026-10-02');
"""
ASK = """
from billing_app.models import *
from django.contrib.auth.models import Group
balance, use = Balance.objects.get(), StorageUse.objects.get()
print(balance.available, balance.held, use.files, use.bytes, Group.objects.count())
print(*(f"{spend.month}: {spend.amount:f}" for spend in MonthlySpend.objects.order_by("month")))
used = DailyUsage.objects.order_by("day").values_list("day", "requests", "input_tokens", "output_tokens", "price")
print(*(" ".join(map(str, row)) for row in used), sep=", ")
"""


def test_an_installation_with_data_is_migrated(tmp_path: Path) -> None:
    """Its usage is in the ledger, the balance and by day, its files are counted, and its roles are there."""
    environment = os.environ | {"DATA_DIR": str(tmp_path), "DJANGO_SETTINGS_MODULE": "config.settings"}
    environment.pop("DATABASE_URL", None)

    def manage(*arguments: str) -> str:
        command = [sys.executable, "manage.py", *arguments]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    for app, migration in BEFORE:
        manage("migrate", app, migration, "--skip-checks", "-v", "0")
    with sqlite3.connect(tmp_path / SQLITE) as database:
        database.executescript(DATA)
    database.close()
    manage("migrate", "-v", "0")
    standing, spends, days = manage("shell", "-v", "0", "-c", ASK).splitlines()
    assert standing == "-0.250000000000001 0 1 100 4"
    assert spends == "2026-10: 0.25 2026-11: 0.000000000000001"
    assert days == "2026-10-31 3 10 5 9, 2026-11-01 1 10 5 9"
    manage("check", "--database", "default")
