"""The books, proved: what is kept beside the ledger against what its entries add up to."""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from django.db import transaction

from billing_app import daily_proof, ledger
from billing_app.models import Account, Balance, ClosedMonth, Hold, LedgerEntry, MonthlySpend
from billing_app.pricing import add, minus, plain


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """`what` is `kept` so and should be `due`."""

    account: str
    what: str
    kept: str
    due: str


def prove_books() -> Iterator[Discrepancy]:
    for account in Account.objects.filter(balance__isnull=False):
        # Locked, so that nothing moves between two readings.
        with transaction.atomic():
            balance = ledger.lock(account.pk)
            yield from list(_of_account(account, balance))
            yield from [Discrepancy(account.name, *facts) for facts in daily_proof.differences(account)]


def _of_account(account: Account, balance: Balance) -> Iterator[Discrepancy]:
    rows = list(
        LedgerEntry.objects.filter(account=account).order_by("pk").values_list("month", "kind", "amount", "held")
    )
    holds = Hold.objects.filter(account=account, released_at=None).values_list("left", flat=True)
    compared = [
        ("balance", add([balance.available, balance.held]), add(amount for _, _, amount, _ in rows)),
        ("held", balance.held, add(held for *_, held in rows)),
        ("open holds", add(holds), balance.held),
    ]
    for month in sorted({month for month, *_ in rows}):
        spent = add(minus(amount) for m, kind, amount, _ in rows if m == month and kind == LedgerEntry.Kind.USAGE)
        kept = MonthlySpend.objects.filter(account=account, month=month).values_list("amount", flat=True)
        compared.append((f"spend of {month}", add(kept), spent))
    for closed in ClosedMonth.objects.filter(account=account):
        due = add(amount for month, _, amount, _ in rows if month <= closed.month)
        compared.append((f"closing balance of {closed.month}", closed.closing, due))
    yield from (_discrepancy(account, *facts) for facts in compared if facts[1] != facts[2])


def _discrepancy(account: Account, what: str, kept: Decimal, due: Decimal) -> Discrepancy:
    return Discrepancy(account.name, what, plain(kept), plain(due))
