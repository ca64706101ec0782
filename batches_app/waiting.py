"""Why a batch does not get on: what stands in its way at this moment, the nearest cause first."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from django.db.models import Count, Exists, OuterRef, Q, Sum

from batches_app.health import is_held, limit_of
from batches_app.models import Batch, Lane, LaneMinute, ServedModel, Shard
from batches_app.states import Status

LOOKED_BACK = timedelta(hours=6)


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


def at_a_standstill(now: datetime) -> Q:
    """Of batches in progress: those that PAUSED, UPSTREAM_DOWN or NO_LANE is the cause of. Until that is over, nothing
    gets done, and what was done in the last minutes foretells nothing."""
    waiting = Shard.objects.filter(batch=OuterRef("pk"), state=Shard.State.WAITING)
    held = Lane.objects.filter(model=OuterRef("model"), permits__gt=0, lease_expires_at__gt=now)
    is_unserved = Q(Exists(waiting), ~Exists(held))
    is_down = Q(Exists(held), ~Exists(held.filter(paused_since=None)))
    return Q(model__paused_at__isnull=False) | is_unserved | is_down


@dataclass(frozen=True, slots=True)
class Reason:
    """What the cause is told with, where it has it. `said`: by the upstream, or by who paused the model."""

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
        yield Reason(Cause.PAUSED, since=batch.model.paused_at, said=batch.model.pause_note)
        return
    every = _lanes(batch)
    lanes = [lane for lane in every if is_held(lane, now)]
    waits, runs = (any(getattr(lane, name) for lane in every) for name in ("batch_waits", "batch_runs"))
    if waits and not lanes:
        yield Reason(Cause.NO_LANE)
        return
    yield from _of_upstream(batch.model, lanes, now)
    if waits and not runs:
        yield from _of_others(batch, lanes)


def _lanes(batch: Batch) -> list[Lane]:
    """Each with whether the batch has requests that wait, and some that a lane has taken: one query for all of it."""
    waiting, running = (batch.shards.filter(state=state) for state in (Shard.State.WAITING, Shard.State.RUNNING))
    lanes = Lane.objects.filter(model=batch.model_id, permits__gt=0)
    return list(lanes.annotate(batch_waits=Exists(waiting), batch_runs=Exists(running)))


def _of_upstream(model: ServedModel, lanes: list[Lane], now: datetime) -> Iterator[Reason]:
    out = [lane for lane in lanes if lane.paused_since]
    if lanes and len(out) == len(lanes):
        first = min(out, key=lambda lane: str(lane.paused_since))
        yield Reason(Cause.UPSTREAM_DOWN, since=first.paused_since, said=first.pause_reason)
        return
    allowed, most = sum(map(limit_of, lanes)), sum(lane.permits for lane in lanes)
    if allowed < most:
        said = next((lane.pause_reason for lane in lanes if lane.pause_reason), "")
        since = throttled_since(model, now=now) if said else None
        yield Reason(Cause.THROTTLED, since=since, number=allowed, most=most, said=said)


def throttled_since(model: ServedModel, *, now: datetime) -> datetime | None:
    """The first of the minutes, six hours back at most, from which on the upstream throttled in each in which it
    answered. Of the present one and what it has not throttled in yet nothing is concluded."""
    minutes = LaneMinute.objects.filter(model=model, minute__gte=now - LOOKED_BACK).order_by("-minute")
    since = None
    for minute, answers, throttled in minutes.values_list("minute").annotate(Sum("answers"), Sum("throttled")):
        if throttled:
            since = minute
        elif answers and since is not None:
            break
    return since


def _of_others(batch: Batch, lanes: list[Lane]) -> Iterator[Reason]:
    in_flight, allowed = sum(lane.in_flight for lane in lanes), sum(map(limit_of, lanes))
    if in_flight >= allowed:
        yield Reason(Cause.FULL, number=in_flight, most=allowed)
    mine = Q(account=batch.account_id)
    running = Batch.objects.filter(status=Status.IN_PROGRESS, model=batch.model_id).exclude(pk=batch.pk).order_by()
    counts = running.aggregate(
        ahead=Count("pk", filter=mine & Q(expires_at__lt=batch.expires_at)),
        accounts=Count("account", distinct=True, filter=~mine),
    )
    if counts["ahead"]:
        yield Reason(Cause.AHEAD, number=counts["ahead"])
    if counts["accounts"]:
        yield Reason(Cause.SHARED, number=counts["accounts"])
