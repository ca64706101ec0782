"""How fast batches get on, and when they will be done."""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db.models import F, QuerySet, Subquery, Sum
from django.db.models.functions import Length

from batches_app import results
from batches_app.models import Batch, Checkpoint
from batches_app.states import Status
from batches_app.waiting import at_a_standstill
from billing_app.models import LedgerEntry

WINDOW = timedelta(minutes=2)
FORESEEABLE = timedelta(days=365)
LAST_CALL = timedelta(minutes=15)  # before the deadline of a batch that does not move


def rates(batch_ids: Collection[int], *, now: datetime) -> dict[int, float]:
    """Lines a second over the last two minutes, or since the batch began; none for a batch that got nowhere, or is at
    a standstill now."""
    sums = _recent(batch_ids, now)
    return {batch: size / results.ENTRY_BYTES / _seconds(begun, now) for batch, begun, size in sums}


class Speed(NamedTuple):
    lines_per_second: float = 0.0
    tokens_per_minute: float = 0.0  # that were booked, of input and output


def speed(batch: Batch, *, now: datetime) -> Speed:
    """Over the same time; one query."""
    booked = LedgerEntry.objects.filter(batch_id=batch.public_id, created_at__gte=now - WINDOW).order_by()
    tokens = booked.values("batch_id").annotate(sum=Sum(F("input_tokens") + F("output_tokens"))).values("sum")
    for _, begun, size, used in _recent([batch.pk], now).annotate(tokens=Subquery(tokens)):
        seconds = _seconds(begun, now)
        return Speed(size / results.ENTRY_BYTES / seconds, 60 * (used or 0) / seconds)
    return Speed()


def _recent(batch_ids: Collection[int], now: datetime) -> "QuerySet[Checkpoint, Any]":
    """Of each batch that gets on its id, when it began, and how long the indexes of its new checkpoints are."""
    moving = Batch.objects.filter(~at_a_standstill(now), pk__in=batch_ids).order_by()
    recent = Checkpoint.objects.filter(batch__in=moving, created_at__gte=now - WINDOW).order_by()
    return recent.values_list("batch", "batch__in_progress_at").annotate(size=Sum(Length("index")))


def _seconds(begun: datetime | None, now: datetime) -> float:
    # A second at least: the first checkpoint of a batch is no measure of its speed.
    return max(1.0, min(WINDOW, now - (begun or now - WINDOW)).total_seconds())


def eta(batch: Batch, rate: float, *, now: datetime) -> datetime | None:
    """When the last line will have its result at this speed; None where nobody can tell."""
    left = batch.total - batch.completed - batch.failed
    if batch.status != Status.IN_PROGRESS or rate <= 0:
        return None
    needed = timedelta(seconds=left / rate) if left / rate < FORESEEABLE.total_seconds() else FORESEEABLE
    return now + needed if needed < FORESEEABLE else None


def is_late(batch: Batch, end: datetime | None, *, now: datetime) -> bool:
    """Whether it will miss its deadline if its lines are done at `end`, as far as that is known."""
    return batch.status == Status.IN_PROGRESS and batch.expires_at < (end or now + LAST_CALL)
