"""How the upstreams of models are: by what the holders of their lanes last said, and did in the last minutes."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple
from urllib.parse import urlsplit

from django.db.models import Count, Exists, F, OuterRef, Sum

from batches_app import lanes, traffic
from batches_app.models import Batch, Lane, ServedModel, Shard
from batches_app.states import Status
from batches_app.traffic import Minute

WINDOW = timedelta(minutes=15)


class State(StrEnum):
    """The worst first."""

    DOWN = "down"  # it refuses, or does not answer; probed until it is back
    THROTTLED = "throttled"  # it asks for less than it could be sent
    UNSERVED = "unserved"  # requests wait, and no worker has a lane of it
    PAUSED = "paused"  # by an operator
    UP = "up"
    IDLE = "idle"  # nothing to send


@dataclass(frozen=True, slots=True)
class Health:
    """`limit`: how many requests may be in flight now, as far as throttling leaves it. `recent`: what came of the
    last 15 minutes, which are `seconds` long."""

    model: ServedModel
    state: State
    since: datetime | None
    reason: str
    in_flight: int
    limit: int
    recent: Minute
    seconds: float

    @property
    def is_cut(self) -> bool:
        return self.limit < self.model.max_concurrency

    @property
    def per_second(self) -> float:
        return self.recent.answers / self.seconds

    @property
    def median(self) -> float | None:
        """In seconds."""
        return self._within(50)

    @property
    def slowest(self) -> float | None:
        """All but one in twenty take no longer: seconds."""
        return self._within(95)

    def _within(self, percent: float) -> float | None:
        milliseconds = traffic.percentile(self.recent.latency, percent)
        return None if milliseconds is None else milliseconds / 1000


def of_models(now: datetime) -> list[Health]:
    """By name. Three queries."""
    waiting = Exists(Shard.objects.filter(lanes.WAITING, model=OuterRef("pk")))
    models = ServedModel.objects.annotate(has_waiting=waiting).prefetch_related("lanes")
    since = now - WINDOW
    recent = traffic.by_model(since, now)
    seconds = WINDOW.total_seconds() + since.second + since.microsecond / 1e6  # it counts whole minutes
    return [
        _health(model, now, recent.get(model.pk) or Minute(since), seconds, waits=model.has_waiting) for model in models
    ]


def _health(model: ServedModel, now: datetime, recent: Minute, seconds: float, *, waits: bool) -> Health:
    every = [lane for lane in model.lanes.all() if lane.permits]
    held = [lane for lane in every if is_held(lane, now)]
    state, since, reason = _judge(model, held, waits=waits)
    return Health(
        model=model,
        state=state,
        since=since,
        reason=reason,
        in_flight=sum(lane.in_flight for lane in held),
        limit=sum(limit_of(lane) if lane in held else lane.permits for lane in every),
        recent=recent,
        seconds=seconds,
    )


def is_held(lane: Lane, now: datetime) -> bool:
    return lane.lease_expires_at is not None and lane.lease_expires_at > now


def limit_of(lane: Lane) -> int:
    """Of a lane that is held. One that has just been taken has not said anything yet."""
    return min(lane.limit, lane.permits) or lane.permits


def _judge(model: ServedModel, held: Sequence[Lane], *, waits: bool) -> tuple[State, datetime | None, str]:
    if model.paused_at:
        return State.PAUSED, model.paused_at, model.pause_note
    outages = [lane for lane in held if lane.paused_since]
    if held and len(outages) == len(held):
        first = min(outages, key=_out_since)
        return State.DOWN, first.paused_since, first.pause_reason
    cut = [lane for lane in held if lane.pause_reason or limit_of(lane) < lane.permits]
    if cut:
        return State.THROTTLED, None, next((lane.pause_reason for lane in cut if lane.pause_reason), "")
    if held:
        return State.UP, None, ""
    return (State.UNSERVED if waits else State.IDLE), None, ""


def _out_since(lane: Lane) -> datetime:
    assert lane.paused_since is not None
    return lane.paused_since


class Demand(NamedTuple):
    """What runs or waits of a model: batches in progress, and their lines that have no result yet."""

    batches: int = 0
    lines: int = 0


def demand() -> dict[int, Demand]:
    """By the model's id."""
    # As a sum: SQLite would go through all batches in the order of their models.
    running = Batch.objects.filter(status=Status.IN_PROGRESS, model__isnull=False).annotate(key=F("model_id") + 0)
    left = Sum(F("total") - F("completed") - F("failed"))
    counts = running.order_by().values_list("key").annotate(batches=Count("pk"), lines=left)
    return {model: Demand(batches, lines) for model, batches, lines in counts}


def without_credentials(url: str) -> str:
    """An address that may be shown. Those with a password are refused nowadays, but rows are older than rules."""
    try:
        parts = urlsplit(url)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
    except ValueError:
        return ""
