"""What entries add up to, without a row of Python for each.

The database adds up tokens, which are whole numbers, and each sum is priced once: a price is linear and exact, so this
is the sum of the entries' amounts to the last digit. It never adds up amounts: SQLite would do it in floats.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

from django.db.models import Min, QuerySet, Sum

from billing_app import months
from billing_app.models import Account, ClosedMonth, LedgerEntry, Price
from billing_app.pricing import NOTHING, Bill, Rates, Tokens, add, charge, list_amount, minus

Kind = LedgerEntry.Kind
CREDITS = (Kind.TOP_UP, Kind.ADJUSTMENT)
COUNTS = ("requests", "input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens")


def usage(entries: QuerySet[LedgerEntry], *by: str) -> dict[tuple[Any, ...], Bill]:
    """The usage among `entries` by the values of some columns, in the order of each group's first entry."""
    groups = entries.filter(kind=Kind.USAGE).order_by().values_list(*by, "price")
    rows = list(groups.annotate(*(Sum(name) for name in COUNTS), first=Min("pk")).order_by("first"))
    prices = Price.objects.in_bulk({row[len(by)] for row in rows})
    return bills((row[: len(by)], row[-6:-1], prices[row[len(by)]].rates) for row in rows)


def bills(parts: Iterable[tuple[tuple[Any, ...], Sequence[int], Rates]]) -> dict[tuple[Any, ...], Bill]:
    """Each part is a group, its COUNTS and what they are priced at; a group may come in several."""
    found: dict[tuple[Any, ...], Bill] = {}
    for group, (requests, *counts), rates in parts:
        tokens = Tokens(*counts)
        part = Bill(requests, tokens, list_amount(tokens, rates), charge(tokens, rates))
        found[group] = found.get(group, NOTHING) + part
    return found


def movements(account_id: int, *, after: str) -> dict[str, Decimal]:
    """By how much each month later than `after` moved the balance."""
    entries = LedgerEntry.objects.filter(account=account_id, month__gt=after)
    moved: defaultdict[str, Decimal] = defaultdict(Decimal)
    for (month,), bill in usage(entries, "month").items():
        moved[month] = minus(bill.charged)
    for month, amount in entries.filter(kind__in=CREDITS).values_list("month", "amount"):
        moved[month] = add([moved[month], amount])
    return moved


def balance_before(account_id: int, month: str) -> Decimal:
    closed = ClosedMonth.objects.filter(account=account_id, month__lt=month).order_by("-month").first()
    later = movements(account_id, after=closed.month if closed else "")
    return add([closed.closing if closed else Decimal(0), *(later[name] for name in later if name < month)])


def first_month(account: Account) -> str:
    """Of the account's first statement."""
    created = months.containing(account.created_at)
    booked = LedgerEntry.objects.filter(account=account).aggregate(first=Min("month"))["first"]
    return min(created, booked) if booked else created
