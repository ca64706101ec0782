import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from django.db import IntegrityError, transaction

from billing_app import api_keys, audit
from billing_app.models import Account, AuditEntry
from billing_app.pricing import Rates

pytestmark = pytest.mark.django_db
MOMENT = datetime(2026, 11, 24, 5, 6, 7, tzinfo=UTC)


def test_an_entry_says_who_did_what_to_what_from_what_to_what_and_why() -> None:
    account = Account.objects.create(name="acme")
    changes = {"monthly_budget": (None, Decimal("1E+2")), "expires_at": [MOMENT, None], "max_files": (1, 2)}
    audit.record(
        actor="olga", action="account.changed", target=account, account="acme", changes=changes, reason="asked",
        address="::1",
    )  # fmt: skip
    entry = AuditEntry.objects.get()
    assert (entry.actor, entry.address, entry.action, entry.reason) == ("olga", "::1", "account.changed", "asked")
    assert (entry.target, entry.account) == (f"Account {account.pk}: acme", "acme")
    assert entry.changes == {
        "monthly_budget": [None, "100"],
        "expires_at": ["2026-11-24T05:06:07+00:00", None],
        "max_files": [1, 2],
    }


def test_amounts_stay_exact() -> None:
    audit.record(actor="a", action="x.y", target="t", changes={"amount": (None, Decimal("0.000000000000000000123"))})
    assert AuditEntry.objects.get().changes == {"amount": [None, "0.000000000000000000123"]}


def test_prices_are_words() -> None:
    plain, cached = (
        Rates(Decimal("0.150"), Decimal(1), Decimal("0.5")),
        Rates(Decimal(1), Decimal(2), Decimal(1), "EUR", Decimal(0)),
    )
    audit.record(actor="a", action="x.y", target="t", changes={"price": (plain, cached)})
    assert AuditEntry.objects.get().changes == {
        "price": ["0.15 input, 1 output USD, times 0.5", "1 input, 0 cached, 2 output EUR, times 1"]
    }


def test_no_secret_gets_into_an_entry() -> None:
    """Neither a field that is one nor a key that somebody pasted as a reason, a name or a list of names."""
    row, key = api_keys.issue(Account.objects.create(name="acme"))
    changes: audit.Changes = {
        "key_hash": (None, row.key_hash),
        "password": ("old", "new"),
        "name": ("", f"use {key}"),
        "x": ([], [key]),
    }
    audit.record(actor="a", action="x.y", target=f"key {key}", changes=changes, reason=f"leaked: {key}")
    entry = AuditEntry.objects.get()
    whole = json.dumps([entry.changes, entry.reason, entry.target])
    assert key not in whole
    assert row.key_hash not in whole
    assert "new" not in whole
    assert entry.reason == f"leaked: {row.hint}"


def test_what_is_too_long_is_cut_not_an_error() -> None:
    audit.record(actor="a" * 500, action="x.y", target="t" * 500, account="c" * 500, reason="r" * 900, address="b" * 99)
    entry = AuditEntry.objects.get()
    assert [len(text) for text in (entry.actor, entry.target, entry.account, entry.reason, entry.address)] == [
        *(150, 200, 100, 500, 64)
    ]


def test_an_entry_is_neither_changed_nor_deleted() -> None:
    audit.record(actor="a", action="x.y", target="t")
    for write in (lambda: AuditEntry.objects.update(actor="b"), lambda: AuditEntry.objects.all().delete()):
        with pytest.raises(IntegrityError), transaction.atomic():
            write()
    assert AuditEntry.objects.get().actor == "a"
