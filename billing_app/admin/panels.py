"""What an account's page shows beside its form."""

from datetime import datetime
from typing import Any

from django.contrib.auth.models import AnonymousUser, User
from django.template.defaultfilters import filesizeformat
from django.utils.html import format_html

from billing_app import months, standing
from billing_app.amounts import money
from billing_app.console.statement import PERMISSION
from billing_app.models import Account
from config.admin_parts import console_url, list_url, meter, percent

SHOWN = 10


def of(user: User | AnonymousUser, account: Account, now: datetime) -> dict[str, Any]:
    account = standing.with_standing(Account.objects.filter(pk=account.pk), now).get()
    holds = standing.open_holds().filter(account=account).order_by("-pk")
    return {
        "tiles": _tiles(account),
        "month": months.containing(now),
        "key_spends": standing.spent_by_key(account, now),
        "holds": holds[:SHOWN],
        "more_holds": max(0, holds.count() - SHOWN),
        "alerts": account.budget_alerts.all()[:SHOWN],
        "statements": standing.statement_months(account, now) if user.has_perm(PERMISSION) else [],
        "links": _links(account),
    }


def _tiles(account: Account) -> list[dict[str, Any]]:
    balance, storage, spent = standing.balance_of(account), standing.storage_of(account), standing.spent(account)
    budget = account.monthly_budget
    used = meter(percent(spent, budget), format_html("of {}", money(budget)), "Budget") if budget is not None else ""
    return [
        {"label": "Available", "value": money(balance.available), "tone": "danger" if balance.available < 0 else ""},
        {"label": "Held for batches", "value": money(balance.held)},
        {"label": "Spent this month", "value": money(spent), "note": used or "no budget"},
        {
            "label": "Files",
            "value": f"{storage.files:,}",
            "note": meter(percent(storage.files, account.max_files), f"of {account.max_files:,}", "Files"),
        },
        {
            "label": "Bytes",
            "value": filesizeformat(storage.bytes),
            "note": meter(
                percent(storage.bytes, account.max_bytes), f"of {filesizeformat(account.max_bytes)}", "Bytes"
            ),
        },
    ]


def _links(account: Account) -> list[tuple[str, str]]:
    pages = {"Batches": "batches", "Files": "files", "Usage": "usage", "Audit log": "audit"}
    models = {"API keys": "billing_app_apikey", "Ledger": "billing_app_ledgerentry"}
    return [
        *((label, console_url(page, account=account.name)) for label, page in pages.items()),
        *((label, list_url(model, account=account.name)) for label, model in models.items()),
    ]
