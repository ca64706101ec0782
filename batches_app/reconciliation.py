"""Every 10 seconds: what should have happened and did not. Rows decide; queues are rebuilt from them."""

import logging
from collections.abc import Callable
from datetime import datetime

from django.conf import settings
from django.db.models import Exists, OuterRef, Q

from batches_app import checkpoints, lanes, lifecycle, queue
from batches_app.models import Batch, Shard
from batches_app.states import ENDING, TERMINAL, Status
from billing_app import alerts, closing, quotas
from files_app import blobs, retention

log = logging.getLogger(__name__)

REMOVALS = 500  # a run; the next one goes on


def reconcile(*, now: datetime) -> None:
    """One step that fails does not keep the others from their work."""
    for step in STEPS:
        try:
            step(now)
        except Exception:
            log.exception("Reconciling: %s failed.", step.__name__)


def expire_due(now: datetime) -> None:
    for batch in Batch.objects.filter(status=Status.IN_PROGRESS, expires_at__lte=now):
        lifecycle.expire(batch, now=now)


def free_dead_lanes(now: datetime) -> None:
    freed = lanes.free_dead(now=now)
    if freed:
        log.warning("Reconciling: %d lanes had died; their shards wait again.", freed)


def complete_done(now: datetime) -> None:
    still_open = Exists(Shard.objects.filter(batch=OuterRef("pk")).exclude(state=Shard.State.DONE))
    done = Batch.objects.filter(~still_open, status=Status.IN_PROGRESS)
    lifecycle.complete_if_done(list(done.values_list("pk", flat=True)), now=now)


def ring_unheard_stages(now: datetime) -> None:
    unclaimed = Batch.objects.filter(Q(stage_expires_at=None) | Q(stage_expires_at__lt=now))
    for batch in unclaimed.filter(status=Status.VALIDATING):
        lifecycle.ring_stage(queue.Job.VALIDATE, batch)
    for batch in unclaimed.filter(status__in=list(ENDING)):
        lifecycle.ring_stage(queue.Job.FINALIZE, batch)


def ring_unheard_lanes(_now: datetime) -> None:
    for model in lanes.models_with_waiting():
        lanes.ring_lanes(model.pk)


def remove_files(now: datetime) -> None:
    quotas.give_back_expired(now)
    retention.expire_due(now)
    retention.remove_unheld(REMOVALS)


def sweep_orphans(now: datetime) -> None:
    """Blobs that a crash left without a row. Once an hour is enough."""
    if int(now.timestamp()) % int(settings.ORPHAN_AGE) >= settings.RECONCILE_INTERVAL:
        return
    retention.sweep_orphans(now)
    for public_id in blobs.folders_in(checkpoints.FOLDER):
        if not Batch.objects.filter(public_id=public_id).exclude(status__in=list(TERMINAL)).exists():
            blobs.delete_folder(checkpoints.folder_of(public_id))


STEPS: tuple[Callable[[datetime], None], ...] = (
    expire_due,
    free_dead_lanes,
    complete_done,
    ring_unheard_stages,
    ring_unheard_lanes,
    remove_files,
    sweep_orphans,
    closing.close_due,
    alerts.send_due,
)
