"""Whether the usage by day is what the ledger's entries add up to."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from itertools import accumulate
from typing import Any

from django.db.models import QuerySet, Sum

from billing_app import totals
from billing_app.models import Account, DailyUsage, LedgerEntry
from billing_app.usage import UtcDay

Counts = tuple[int, ...]  # totals.COUNTS
Days = Mapping[date, Counts]
NONE = (0,) * len(totals.COUNTS)
A_DAY = timedelta(days=1)


def differences(account: Account) -> Iterator[tuple[str, str, str]]:
    """What, how it is kept, how it should be. Under the lock of the account's balance.

    The sum of all days is proved to the last token. Which day is proved up to its neighbours: TIME_ZONE may have been
    another one when it was booked, and no zone's day is further from UTC's than that.
    """
    entries = LedgerEntry.objects.filter(account=account, kind=LedgerEntry.Kind.USAGE)
    due = _by_price(entries.annotate(utc_day=UtcDay("created_at")), "utc_day")
    kept = _by_price(DailyUsage.objects.filter(account=account), "day")
    for model, price in sorted(due.keys() | kept.keys()):
        what = f"daily usage of {model} at price {price}"
        is_kept, is_due = kept.get((model, price), {}), due.get((model, price), {})
        if _sum(is_kept) != _sum(is_due):
            yield what, _words(_sum(is_kept)), _words(_sum(is_due))
        elif not _are_near(is_kept, is_due):
            yield f"the days of {what}", "elsewhere", "where the ledger has it"


def _by_price(rows: QuerySet[Any], day: str) -> dict[tuple[str, int], dict[date, Counts]]:
    found: defaultdict[tuple[str, int], dict[date, Counts]] = defaultdict(dict)
    sums = rows.order_by().values_list("model_name", "price_id", day).annotate(*(Sum(name) for name in totals.COUNTS))
    for model, price, on, *counts in sums:
        found[model, price][on if isinstance(on, date) else date.fromisoformat(on)] = tuple(counts)
    return dict(found)


def _sum(days: Days) -> Counts:
    return _plus(*days.values())


def _plus(*counts: Counts) -> Counts:
    return tuple(map(sum, zip(NONE, *counts, strict=True)))


def _are_near(kept: Days, due: Days) -> bool:
    """Up to any day there is no more than the ledger has until the day after, and no less than until the day before."""
    is_kept, is_due = _Running(kept), _Running(due)
    return all(
        low <= number <= high
        for day in sorted({*kept, *(on + A_DAY for on in due), *(on - A_DAY for on in due)})
        for low, number, high in zip(
            is_due.until(day - A_DAY), is_kept.until(day), is_due.until(day + A_DAY), strict=True
        )
    )


class _Running:
    def __init__(self, days: Days) -> None:
        self._days = sorted(days)
        self._sums = list(accumulate((days[day] for day in self._days), _plus, initial=NONE))

    def until(self, last: date) -> Counts:
        return self._sums[bisect_right(self._days, last)]


def _words(counts: Counts) -> str:
    return ", ".join(f"{name} {count}" for name, count in zip(totals.COUNTS, counts, strict=True))
