"""What lanes did, minute by minute: how it is counted, kept for two days, summed up for ever, and read."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import QuerySet

from batches_app.models import LaneMinute, ModelTraffic, ServedModel
from billing_app.pricing import Tokens

# Upper bounds of the latency histogram, each about half as much again as the last; what takes longer is counted apart.
BOUNDS_MS: tuple[int, ...] = tuple(round(50 * 18_000 ** (step / 24)) for step in range(25))
KEPT = timedelta(hours=48)
MINUTE = timedelta(minutes=1)
SETTLED = timedelta(minutes=5)  # after which hardly a holder comes back to a minute
SUMMED_AT_ONCE = 2_000

_SUMS = (
    "completed",
    "failed",
    "input_tokens",
    "output_tokens",
    "answers",
    "throttled",
    "faults",
    "checkpoints",
    "waited_ms",
)


@dataclass(slots=True)
class Minute:
    """`answers`: whatever became of a request, those that were sent again included. Of these, `throttled`: the
    upstream asked for less; `faults`: no answer, or another status from 500 on. `latency`: of the answers with a
    status of 2xx, as a refusal comes fast whatever a true answer takes; see `BOUNDS_MS`. `waited_ms`: for these, all
    together."""

    minute: datetime
    completed: int = 0
    failed: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    answers: int = 0
    throttled: int = 0
    faults: int = 0
    checkpoints: int = 0
    waited_ms: int = 0
    latency: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_MS) + 1))

    def answered(self, status: int, seconds: float, *, throttled: bool) -> None:
        """`status`: 0 where there is no answer."""
        self.answers += 1
        if 200 <= status < 300:
            self.latency[bisect_left(BOUNDS_MS, seconds * 1000)] += 1
            self.waited_ms += round(seconds * 1000)
        elif throttled:
            self.throttled += 1
        elif not status or status >= 500:
            self.faults += 1

    def finished(self, succeeded: bool, tokens: Tokens | None) -> None:
        """A line has its result."""
        if not succeeded:
            self.failed += 1
            return
        self.completed += 1
        if tokens is not None:
            self.input_tokens += tokens.input
            self.output_tokens += tokens.output


class Tally:
    """The present minute of one holder of a lane. What is written is the whole minute so far, not what came since
    the last time: to write it again, or after a commit that was not answered, counts nothing twice."""

    def __init__(self, now: datetime) -> None:
        self.minute = Minute(_minute_of(now))
        self._written = self._seen()

    def unwritten(self) -> Minute | None:
        """None: nothing happened since it was last written."""
        return self.minute if self._seen() != self._written else None

    def written(self, now: datetime) -> None:
        if self.minute.minute != _minute_of(now):
            self.minute = Minute(_minute_of(now))
        self._written = self._seen()

    def _seen(self) -> tuple[int, int, int]:
        return self.minute.answers, self.minute.completed, self.minute.failed


def write(minute: Minute, *, model_id: int, lane_id: int, lane_token: int) -> None:
    """In the transaction that proves that the lane is still this holder's."""
    counts = {name: getattr(minute, name) for name in (*_SUMS, "latency")}
    row = LaneMinute(model_id=model_id, lane_id=lane_id, lane_token=lane_token, minute=minute.minute, **counts)
    key = ["lane", "lane_token", "minute"]
    LaneMinute.objects.bulk_create([row], update_conflicts=True, unique_fields=key, update_fields=[*_SUMS, "latency"])


def prune(now: datetime) -> None:
    LaneMinute.objects.filter(minute__lt=now - KEPT, is_summed=True).delete()


def sum_up(now: datetime) -> None:
    """Adds minutes that are over to what their models came to, each once, so that no total shrinks with `prune`. One
    that its holder writes once more after that, for the disk was full meanwhile, counts for what it was before."""
    over = LaneMinute.objects.filter(is_summed=False, minute__lt=now - SETTLED).order_by("pk")
    if not over.exists():
        return
    with transaction.atomic():
        minutes = list(over.select_for_update()[:SUMMED_AT_ONCE])
        sums: dict[int, Minute] = {}
        for minute in minutes:
            _add(sums.setdefault(minute.model_id, Minute(now)), _counts_of(minute))
        for model_id, total in sorted(sums.items()):
            _add_to_total(model_id, total)
        LaneMinute.objects.filter(pk__in=[minute.pk for minute in minutes]).update(is_summed=True)


def _add_to_total(model_id: int, more: Minute) -> None:
    traffic, _ = ModelTraffic.objects.select_for_update().get_or_create(model_id=model_id)
    _add(more, _counts_of(traffic))
    for name in (*_SUMS, "latency"):
        setattr(traffic, name, getattr(more, name))
    traffic.save()


def _counts_of(row: LaneMinute | ModelTraffic) -> list[Any]:
    return [getattr(row, name) for name in (*_SUMS, "latency")]


def of_all_time(now: datetime) -> dict[int, Minute]:
    """By the model's id. From one call to the next nothing becomes less."""
    columns = ("model", *_SUMS, "latency")
    last = LaneMinute.objects.filter(is_summed=False).order_by().values_list(*columns)
    sums: dict[int, Minute] = {}
    # In one query: between two, a minute may become part of the sum.
    for model_id, *counts in ModelTraffic.objects.values_list(*columns).union(last, all=True):
        _add(sums.setdefault(model_id, Minute(now)), counts)
    return sums


def per_minute(since: datetime, now: datetime, model: ServedModel | None = None) -> list[Minute]:
    """Of all lanes together, from the minute of `since` to the one that `now` is in: also those without traffic."""
    first, last = _minute_of(since), _minute_of(now)
    minutes = {first + n * MINUTE: Minute(first + n * MINUTE) for n in range((last - first) // MINUTE + 1)}
    rows = _between(first, now) if model is None else _between(first, now).filter(model=model)
    for minute, *counts in rows.values_list("minute", *_SUMS, "latency"):
        _add(minutes[minute], counts)
    return list(minutes.values())


def by_model(since: datetime, now: datetime) -> dict[int, Minute]:
    """The sums since the minute of `since`, by the model's id; models without traffic have none."""
    sums: dict[int, Minute] = {}
    for model_id, *counts in _between(_minute_of(since), now).values_list("model", *_SUMS, "latency"):
        _add(sums.setdefault(model_id, Minute(_minute_of(since))), counts)
    return sums


def percentile(counts: Sequence[int], p: float) -> float | None:
    """Milliseconds within which `p` per cent of the answers came, about; None where there were none."""
    rank = sum(counts) * p / 100
    if not any(counts):
        return None
    below, lower = 0, 0.0
    for count, upper in zip(counts, BOUNDS_MS, strict=False):
        if count and below + count >= rank:
            return lower + (upper - lower) * max(0.0, rank - below) / count
        below, lower = below + count, float(upper)
    return lower


def _between(first: datetime, now: datetime) -> "QuerySet[LaneMinute]":
    return LaneMinute.objects.filter(minute__gte=first, minute__lte=now).order_by()


def _add(minute: Minute, counts: Iterable[Any]) -> None:
    *sums, latency = counts
    for name, count in zip(_SUMS, sums, strict=True):
        setattr(minute, name, getattr(minute, name) + count)
    if len(latency) == len(minute.latency):  # else of a version with other bounds
        minute.latency = [known + new for known, new in zip(minute.latency, latency, strict=True)]


def _minute_of(moment: datetime) -> datetime:
    return moment.replace(second=0, microsecond=0)
