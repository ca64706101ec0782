"""Every 10 seconds: what should have happened and did not. Rows decide; queues are rebuilt from them."""

import logging
import time
from collections.abc import Callable
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Exists, OuterRef

from batches_app import checkpoints, lanes, lifecycle, operations, queue, routing, traffic
from batches_app.models import Batch, ReconcileRun, Shard
from batches_app.request_lines import Violation
from batches_app.states import ENDING, TERMINAL, Status
from billing_app import alerts, closing, quotas, running_counts
from billing_app.running_counts import HEALED, STEP_FAILED
from files_app import blobs, retention

log = logging.getLogger(__name__)

REMOVALS = 500  # a run; the next one goes on
PROBE_PATIENCE = timedelta(minutes=5)  # after which nobody waits for the answer any more
QUIET_RUNS_KEPT = timedelta(days=2)  # of which nothing came
RUNS_KEPT = timedelta(days=30)
UNREAD = Violation("batch_expired", "The input file could not be checked before the deadline.", None, None)


def reconcile(*, now: datetime) -> None:
    begun = time.monotonic()
    healed = {step.__name__: _take(step, now) for step in STEPS}
    told = {name: count for name, count in healed.items() if count}
    ReconcileRun.objects.create(started_at=now, seconds=time.monotonic() - begun, healed=told)
    for name, count in told.items():
        running_counts.add(HEALED + name, count)
    for name in [name for name, count in healed.items() if count is None]:
        running_counts.add(STEP_FAILED + name, 1)


def _take(step: Callable[[datetime], int], now: datetime) -> int | None:
    """None: it failed, which does not keep the others from their work."""
    try:
        return step(now)
    except Exception:
        log.exception("Reconciling: %s failed.", step.__name__)
        return None


def expire_due(now: datetime) -> int:
    due = Batch.objects.filter(status=Status.IN_PROGRESS, expires_at__lte=now)
    unread = Batch.objects.filter(status=Status.VALIDATING, expires_at__lte=now)
    expired = sum(lifecycle.expire(batch, now=now) for batch in due)
    return expired + sum(lifecycle.fail(batch, [UNREAD.as_json()], now=now) for batch in unread)


def free_dead_lanes(now: datetime) -> int:
    freed = lanes.free_dead(now=now)
    if freed:
        log.warning("Reconciling: %d lanes had died; their shards wait again.", freed)
    return freed


def complete_done(now: datetime) -> int:
    still_open = Exists(Shard.objects.filter(batch=OuterRef("pk")).exclude(state=Shard.State.DONE))
    done = Batch.objects.filter(~still_open, status=Status.IN_PROGRESS)
    return lifecycle.complete_if_done(list(done.values_list("pk", flat=True)), now=now)


def ring_unheard_stages(now: datetime) -> int:
    unclaimed = Batch.objects.filter(lifecycle.stage_is_free(now))
    new, ending = unclaimed.filter(status=Status.VALIDATING), unclaimed.filter(status__in=list(ENDING))
    bells = [lifecycle.ring_stage(queue.Job.VALIDATE, batch) for batch in new]
    bells += [lifecycle.ring_stage(queue.Job.FINALIZE, batch) for batch in ending]
    return sum(bell.rang for bell in bells)


def ring_unheard_lanes(_now: datetime) -> int:
    return sum(bell.rang for model in lanes.models_with_waiting() for bell in lanes.ring_lanes(model.pk))


def ring_unheard_probes(now: datetime) -> int:
    asked = routing.unanswered_probes().filter(probe_asked_at__gt=now - PROBE_PATIENCE)
    return sum(routing.ring_probe(model).rang for model in asked)


def remove_files(now: datetime) -> int:
    given_back, expired = quotas.give_back_expired(now), retention.expire_due(now)
    return given_back + expired + retention.remove_unheld(REMOVALS)


def sweep_orphans(now: datetime) -> int:
    """Blobs that a crash left without a row."""
    if not _is_hourly(now):
        return 0
    swept = retention.sweep_orphans(now)
    for public_id in blobs.folders_in(checkpoints.FOLDER):
        if not Batch.objects.filter(public_id=public_id).exclude(status__in=list(TERMINAL)).exists():
            blobs.delete_folder(checkpoints.folder_of(public_id))
            swept += 1
    return swept


def prune_records(now: datetime) -> int:
    """Of what was done, as far as nobody looks at it any more. That heals nothing."""
    traffic.sum_up(now)
    traffic.prune(now)
    if _is_hourly(now):
        ReconcileRun.objects.filter(started_at__lt=now - QUIET_RUNS_KEPT, healed={}).delete()
        ReconcileRun.objects.filter(started_at__lt=now - RUNS_KEPT).delete()
    return 0


def _is_hourly(now: datetime) -> bool:
    """For what is enough once an hour."""
    return int(now.timestamp()) % int(settings.ORPHAN_AGE) < settings.RECONCILE_INTERVAL


# Each returns how many things it set right.
STEPS: tuple[Callable[[datetime], int], ...] = (
    expire_due,
    free_dead_lanes,
    complete_done,
    ring_unheard_stages,
    ring_unheard_lanes,
    ring_unheard_probes,
    operations.ring_unheld,
    operations.forget_drafts,
    remove_files,
    sweep_orphans,
    prune_records,
    closing.close_due,
    alerts.send_due,
)
