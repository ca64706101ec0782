"""How much gets done, for charts: summed up by the database, for a day has thousands of lanes' minutes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from django.db.models import Sum

from batches_app.models import LaneMinute

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
# How long a chart's steps are, by the hours that it shows.
STEPS = {1: MINUTE, 6: 5 * MINUTE, 24: 15 * MINUTE}


class Counts(NamedTuple):
    """Lines, and tokens of those that succeeded."""

    completed: int = 0
    failed: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    @property
    def lines(self) -> int:
        return self.completed + self.failed

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens


class Step(NamedTuple):
    at: datetime
    minutes: int
    counts: Counts

    @property
    def lines_per_second(self) -> float:
        return self.counts.lines / self.minutes / 60

    @property
    def failed_per_second(self) -> float:
        return self.counts.failed / self.minutes / 60

    @property
    def tokens_per_minute(self) -> float:
        return self.counts.tokens / self.minutes

    @property
    def output_per_minute(self) -> float:
        return self.counts.output_tokens / self.minutes


@dataclass(frozen=True, slots=True)
class Throughput:
    """`lines_per_second` and `tokens_per_minute` are of the last minute; `last_hour` is what its lines came to."""

    steps: Sequence[Step]
    lines_per_second: float
    tokens_per_minute: float
    last_hour: Counts


def of_last(hours: int, now: datetime) -> Throughput:
    present = now.replace(second=0, microsecond=0)
    first = _start(present - timedelta(hours=hours), STEPS[hours])
    counts = _by_minute(first, now)
    last_minute = _last_minute(counts, present, now)
    return Throughput(
        steps=_steps(counts, first, present, STEPS[hours]),
        lines_per_second=last_minute[0] / 60,
        tokens_per_minute=last_minute[1],
        last_hour=_sum(each for minute, each in counts.items() if minute > now - HOUR),
    )


def _by_minute(first: datetime, now: datetime) -> dict[datetime, Counts]:
    minutes = LaneMinute.objects.filter(minute__gte=first, minute__lte=now).order_by()
    sums = [Sum(name) for name in Counts._fields]
    return {minute: Counts(*counts) for minute, *counts in minutes.values_list("minute").annotate(*sums)}


def _steps(counts: Mapping[datetime, Counts], first: datetime, present: datetime, length: timedelta) -> list[Step]:
    """Up to the last minute that is over: what the present one has so far would look like a fall."""
    steps = []
    while first < present:
        after = min(first + length, present)
        minutes = (after - first) // MINUTE
        steps.append(Step(first, minutes, _sum(counts.get(first + n * MINUTE, Counts()) for n in range(minutes))))
        first = after
    return steps


def _last_minute(counts: Mapping[datetime, Counts], present: datetime, now: datetime) -> tuple[float, float]:
    """Lines and tokens of the last 60 seconds: of the minute before, that share which is not longer ago."""
    share = 1 - (now - present) / MINUTE
    this, before = (counts.get(minute, Counts()) for minute in (present, present - MINUTE))
    return this.lines + share * before.lines, this.tokens + share * before.tokens


def _sum(counts: Iterable[Counts]) -> Counts:
    return Counts(*(sum(column) for column in zip(Counts(), *counts, strict=True)))


def _start(moment: datetime, step: timedelta) -> datetime:
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return moment - (moment - epoch) % step


def of_models(now: datetime) -> dict[int, list[int]]:
    """Lines of each minute of the last hour, by the model's id, up to the last minute that is over."""
    present = now.replace(second=0, microsecond=0)
    minutes = LaneMinute.objects.filter(minute__gte=present - HOUR, minute__lt=present).order_by()
    sums = minutes.values_list("model", "minute").annotate(Sum("completed"), Sum("failed"))
    lines: dict[int, list[int]] = {}
    for model, minute, completed, failed in sums:
        lines.setdefault(model, [0] * 60)[(minute - present + HOUR) // MINUTE] = completed + failed
    return lines
