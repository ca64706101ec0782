"""What an account used and was charged over time: for its own API and for the console."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Any

from django.db.models import CharField, Func

from billing_app import totals
from billing_app.models import Account, LedgerEntry
from billing_app.pricing import Bill


@dataclass(frozen=True, slots=True)
class Bucket:
    """`bills` by model; under "" where models are not told apart. Empty where nothing was used."""

    start: datetime
    end: datetime
    bills: dict[str, Bill]


def buckets(account: Account, start: datetime, end: datetime, *, by_model: bool, by_day: bool) -> list[Bucket]:
    """From `start` until before `end` (in UTC): in days, the first and the last cut to fit, or all in one."""
    entries = LedgerEntry.objects.filter(account=account, created_at__gte=start, created_at__lt=end)
    if by_day:
        entries = entries.annotate(day=UtcDay("created_at"))
    found: defaultdict[str | None, dict[str, Bill]] = defaultdict(dict)
    by = ["model_name"] * by_model + ["day"] * by_day
    for key, bill in totals.usage(entries, *by).items():
        found[key[-1] if by_day else None][key[0] if by_model else ""] = bill
    if not by_day:
        return [Bucket(start, end, found[None])]
    return [Bucket(first, last, found[first.date().isoformat()]) for first, last in _days(start, end)]


class UtcDay(Func):
    """As text. SQLite keeps moments as text in UTC; Django's TruncDate would call Python for each row there."""

    output_field = CharField()
    template = "to_char(%(expressions)s AT TIME ZONE 'UTC', 'YYYY-MM-DD')"

    def as_sqlite(self, compiler: Any, connection: Any, **extra: Any) -> tuple[str, Any]:
        return self.as_sql(compiler, connection, template="substr(%(expressions)s, 1, 10)", **extra)


def _days(start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    while start < end:
        midnight = datetime.combine(start.date() + timedelta(days=1), time(), UTC)
        yield start, min(midnight, end)
        start = midnight
