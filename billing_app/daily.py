"""Usage by day, account, model and price: what pages show, without reading the ledger, whose entries move it.

A day is that of TIME_ZONE in which the usage was booked, whoever looks at it.
"""

from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from django.db.models import F, QuerySet, Sum
from django.utils import timezone

from billing_app import totals
from billing_app.models import Account, DailyUsage, Price
from billing_app.pricing import NOTHING, Bill, Rates, Tokens

# In the order of the fields of Rates
_RATES = ("input_price", "output_price", "batch_discount", "currency", "cached_input_price")


def day_of(moment: datetime) -> date:
    return timezone.localdate(moment, timezone.get_default_timezone())


def note(account_id: int, price: Price, requests: int, tokens: Tokens, *, now: datetime) -> None:
    """Under the lock of the account's balance: nobody else makes the row meanwhile."""
    counts = _counts(requests, tokens)
    facts = {"account_id": account_id, "model_name": price.model_name, "price_id": price.pk, "day": day_of(now)}
    row = DailyUsage.objects.filter(**facts)
    if not row.update(**{name: F(name) + count for name, count in counts.items()}):
        DailyUsage.objects.create(**facts, **counts)


def _counts(requests: int, tokens: Tokens) -> Mapping[str, int]:
    numbers = (requests, tokens.input, tokens.cached, tokens.output, tokens.reasoning)
    return dict(zip(totals.COUNTS, numbers, strict=True))


def usage(
    day_from: date, day_to: date, *by: str, account: Account | None = None, model: str = ""
) -> dict[tuple[Any, ...], Bill]:
    """From the one day to the other, both included, by some of account__name, account, model_name and day."""
    rows = _rows(day_from, day_to, account, model).order_by()
    groups = rows.values_list(*by, *(f"price__{name}" for name in _RATES))  # with them, and no other query for them
    sums = groups.annotate(*(Sum(name) for name in totals.COUNTS))
    place, counts = len(by), len(by) + len(_RATES)
    return totals.bills((row[:place], row[counts:], Rates(*row[place:counts])) for row in sums)


def spent(day_from: date, day_to: date, *, account: Account | None = None) -> Decimal:
    return usage(day_from, day_to, account=account).get((), NOTHING).charged


def _rows(day_from: date, day_to: date, account: Account | None, model: str) -> QuerySet[DailyUsage]:
    rows = DailyUsage.objects.filter(day__gte=day_from, day__lte=day_to)
    if account is not None:
        rows = rows.filter(account=account)
    return rows.filter(model_name=model) if model else rows
