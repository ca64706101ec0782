"""Why a batch does not get on: what stands in its way at this moment, the nearest cause first."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from django.db.models import Count, Q

from batches_app.health import is_held, limit_of
from batches_app.models import Batch, Lane, Shard
from batches_app.states import Status


class Cause(StrEnum):
    VALIDATION_WAITS = "validation_waits"  # for a worker of the queue "control"
    VALIDATING = "validating"
    PAUSED = "paused"  # its model, by an operator
    UPSTREAM_DOWN = "upstream_down"
    THROTTLED = "throttled"
    NO_LANE = "no_lane"  # requests wait, and no worker has a lane of the model
    AHEAD = "ahead"  # batches of the same account with an earlier deadline
    SHARED = "shared"  # other accounts have requests waiting too
    FULL = "full"  # the model has in flight what it may have
    LAST_ANSWERS = "last_answers"  # stopped; what is in flight has a short grace
    MERGE_WAITS = "merge_waits"  # for a worker of the queue "control"
    MERGING = "merging"


@dataclass(frozen=True, slots=True)
class Reason:
    """`since`, `number`, `most` and `said` (by the upstream): what the cause is told with, where it has it."""

    cause: Cause
    since: datetime | None = None
    number: int = 0
    most: int = 0
    said: str = ""


def why_waiting(batch: Batch, *, now: datetime) -> list[Reason]:
    """Nothing for a batch that has ended, or that gets on as it should. Four queries at most."""
    match batch.status:
        case Status.VALIDATING:
            cause = Cause.VALIDATING if _has_stage(batch, now) else Cause.VALIDATION_WAITS
            return [Reason(cause, since=batch.created_at)]
        case Status.IN_PROGRESS:
            return list(_on_its_way(batch, now))
        case Status.FINALIZING | Status.CANCELLING:
            return [_at_its_end(batch, now)]
        case _:
            return []


def _has_stage(batch: Batch, now: datetime) -> bool:
    return batch.stage_expires_at is not None and batch.stage_expires_at > now


def _at_its_end(batch: Batch, now: datetime) -> Reason:
    since = batch.cancelling_at or batch.finalizing_at
    running = Shard.objects.filter(batch=batch, state=Shard.State.RUNNING).count() if batch.sealed_at is None else 0
    if running:
        return Reason(Cause.LAST_ANSWERS, since=since)
    return Reason(Cause.MERGING if _has_stage(batch, now) else Cause.MERGE_WAITS, since=since)


def _on_its_way(batch: Batch, now: datetime) -> Iterator[Reason]:
    if batch.model is None:
        return
    if batch.model.paused_at:
        yield Reason(Cause.PAUSED, since=batch.model.paused_at)
        return
    lanes = [lane for lane in Lane.objects.filter(model=batch.model_id, permits__gt=0) if is_held(lane, now)]
    shards = Shard.objects.filter(batch=batch).aggregate(
        waiting=Count("pk", filter=Q(state=Shard.State.WAITING)), running=Count("pk", filter=Q(state="running"))
    )
    if shards["waiting"] and not lanes:
        yield Reason(Cause.NO_LANE)
        return
    yield from _of_upstream(batch, lanes)
    if shards["waiting"] and not shards["running"]:
        yield from _of_others(batch, lanes)


def _of_upstream(batch: Batch, lanes: list[Lane]) -> Iterator[Reason]:
    out = [lane for lane in lanes if lane.paused_since]
    if lanes and len(out) == len(lanes):
        first = min(out, key=lambda lane: str(lane.paused_since))
        yield Reason(Cause.UPSTREAM_DOWN, since=first.paused_since, said=first.pause_reason)
        return
    allowed, most = sum(map(limit_of, lanes)), sum(lane.permits for lane in lanes)
    if allowed < most:
        said = next((lane.pause_reason for lane in lanes if lane.pause_reason), "")
        yield Reason(Cause.THROTTLED, number=allowed, most=most, said=said)


def _of_others(batch: Batch, lanes: list[Lane]) -> Iterator[Reason]:
    in_flight, allowed = sum(lane.in_flight for lane in lanes), sum(map(limit_of, lanes))
    if in_flight >= allowed:
        yield Reason(Cause.FULL, number=in_flight, most=allowed)
    busy = Shard.objects.filter(model=batch.model_id, state__in=[Shard.State.WAITING, Shard.State.RUNNING])
    mine = Q(account=batch.account_id) & Q(deadline__lt=batch.expires_at)
    counts = busy.aggregate(
        ahead=Count("batch", distinct=True, filter=mine & ~Q(batch=batch)),
        accounts=Count("account", distinct=True, filter=~Q(account=batch.account_id)),
    )
    if counts["ahead"]:
        yield Reason(Cause.AHEAD, number=counts["ahead"])
    if counts["accounts"]:
        yield Reason(Cause.SHARED, number=counts["accounts"])
