"""Who runs what: lanes and who holds them, what waits longest, what the reconciler found."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Exists, F, OuterRef

from batches_app.health import is_held, limit_of
from batches_app.models import Batch, Lane, Operation, ReconcileRun, Shard
from batches_app.queue import Snapshot, WorkerState
from batches_app.states import Status

SILENCE = timedelta(seconds=60)  # of the reconciler, which runs every 10 s
HEARTBEAT = timedelta(seconds=75)  # a worker of `up` gives one every 45 s at least
HEALINGS = 20
MOST_LANES = 200  # on a page


def unheard(workers: Snapshot, now: datetime) -> list[str]:
    """The queues that no worker listens to."""
    heard = {name for worker in workers.workers if not is_stale(worker, now) for name in worker.queues}
    return [name for name in settings.RQ_QUEUES if name not in heard]


def is_silent(last: ReconcileRun | None, now: datetime) -> bool:
    return last is None or last.started_at < now - SILENCE


def is_stale(worker: WorkerState, now: datetime) -> bool:
    return worker.heartbeat is None or worker.heartbeat < now - HEARTBEAT


@dataclass(frozen=True, slots=True)
class LaneState:
    """`since`: when its holder began, as far as its worker says."""

    lane: Lane
    is_held: bool
    limit: int
    since: datetime | None


@dataclass(frozen=True, slots=True)
class WorkerLine:
    """`lane`: what it works on, if that is a lane."""

    worker: WorkerState
    is_stale: bool
    lane: Lane | None


def workers(snapshot: Snapshot, lanes: Sequence[LaneState], now: datetime) -> list[WorkerLine]:
    by_job = {_job_of(one.lane): one.lane for one in lanes}
    return [WorkerLine(worker, is_stale(worker, now), by_job.get(worker.job)) for worker in snapshot.workers]


def lanes(snapshot: Snapshot, now: datetime) -> list[LaneState]:
    """Those with a lease first; lanes that have lost their permits are shown for as long as somebody holds them."""
    rows = Lane.objects.select_related("model").order_by(
        F("lease_expires_at").desc(nulls_last=True), "model__name", "number"
    )
    began = {worker.job: worker.since for worker in snapshot.workers}
    shown = [_shown(lane, began.get(_job_of(lane)), now) for lane in rows[:MOST_LANES]]
    found = [one for one in shown if one.lane.permits or one.is_held]
    return sorted(found, key=lambda one: (not one.is_held, one.lane.model.name, one.lane.number))


def _job_of(lane: Lane) -> str:
    """As `queue.snapshot` describes it."""
    return f"run_lane lane {lane.pk}"


def _shown(lane: Lane, began: datetime | None, now: datetime) -> LaneState:
    held = is_held(lane, now)
    return LaneState(lane, held, limit_of(lane) if held else 0, began if held else None)


def oldest_waiting() -> Batch | None:
    """Of the batches on which nobody works now, the one that was created first."""
    shards = Shard.objects.filter(batch=OuterRef("pk"), state=Shard.State.RUNNING)
    batches = Batch.objects.only("public_id", "name", "created_at").order_by("created_at", "id")
    resting = batches.filter(~Exists(shards), status=Status.IN_PROGRESS)
    new = batches.filter(status=Status.VALIDATING)
    found = [batch for batch in (resting.first(), new.first()) if batch is not None]
    return min(found, key=lambda batch: batch.created_at, default=None)


@dataclass(frozen=True, slots=True)
class Reconciliation:
    last: ReconcileRun | None
    healings: Sequence[ReconcileRun]


def reconciliation() -> Reconciliation:
    return Reconciliation(ReconcileRun.objects.first(), list(ReconcileRun.objects.exclude(healed={})[:HEALINGS]))


def operations() -> list[Operation]:
    running = Operation.objects.filter(state=Operation.State.RUNNING)
    return list(running.defer("targets", "problems"))
