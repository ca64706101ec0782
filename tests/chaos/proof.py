"""What must be true when the storm is over, whatever it was."""

import json
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from openai import OpenAI

from tests import stack
from tests.chaos.ground import Ground
from tests.chaos.tenants import Owed, Tenant, Tenants
from tests.stack import TERMINAL, result_lines

DRAINED_WITHIN = 240.0  # seconds
# Deleted for good and swept as they would be in hours; then bytes and rows are to agree.
LEFT = """
import json
from datetime import timedelta
from pathlib import Path
from django.conf import settings
from django.utils import timezone
from batches_app import reconciliation
from batches_app.models import Batch, Checkpoint, Lane, Operation, Shard
from billing_app.models import Hold, LedgerEntry, Reservation
from files_app import retention
from billing_app import quotas
from files_app.models import FileHold, MultipartUpload, StoredFile, UploadPart
later = (timezone.now() + timedelta(hours=3)).replace(minute=0, second=0)  # the sweep is an hourly one
retention.expire_due(later)
# Before any other room is given back: an upload that ends gives back its own, by itself.
ended = MultipartUpload.objects.ended().values("reservation")
kept_by_uploads = Reservation.objects.filter(pk__in=ended).count()
quotas.give_back_expired(later)
retention.remove_unheld(10_000)
reconciliation.sweep_orphans(later)  # of checkpoints too: who concludes a batch may be killed before it removes them
root = Path(settings.DATA_DIR) / "blobs"
there = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
named = set(StoredFile.objects.values_list("blob", flat=True)) | set(Checkpoint.objects.values_list("blob", flat=True))
print(json.dumps({
    "blobs that nothing names": sorted(there - named)[:5],
    "blobs that are missing": sorted(named - there)[:5],
    "batches under way": Batch.objects.exclude(status__in=["completed", "failed", "expired", "cancelled"]).count(),
    "shards at work": Shard.objects.filter(state__in=["waiting", "running"]).count(),
    "lanes that are held": Lane.objects.exclude(lease_expires_at=None).filter(shards__state="running").count(),
    "files that are held": FileHold.objects.count(),
    "credit that is held": Hold.objects.filter(released_at=None).count(),
    "room that is reserved": Reservation.objects.count(),
    "room that ended uploads kept": kept_by_uploads,
    "parts that are left": UploadPart.objects.count(),
    "uploads under way": MultipartUpload.objects.filter(status="pending").count(),
    "operations under way": Operation.objects.filter(state="running").count(),
    "what a stranger is billed": LedgerEntry.objects.filter(account__name="stranger").count(),
    "bytes of unfinished uploads": sum(1 for path in Path(settings.FILE_UPLOAD_TEMP_DIR).iterdir() if path.is_file()),
}))
"""


def drain(tenants: Tenants) -> list[str]:
    """Waits until every batch has ended; those that have not."""
    deadline = time.monotonic() + DRAINED_WITHIN
    waiting = [(tenant, owed) for tenant in tenants.all for owed in tenant.owed]
    while waiting and time.monotonic() < deadline:
        waiting = [(tenant, owed) for tenant, owed in waiting if _status(tenant.client, owed) not in TERMINAL]
        time.sleep(0.5)
    return [f"{owed.id} is still {_status(tenant.client, owed)}" for tenant, owed in waiting]


def _status(client: OpenAI, owed: Owed) -> str:
    return str(client.batches.retrieve(owed.id).status)


def broken(ground: Ground, tenants: Tenants) -> Iterator[str]:
    """Each in a sentence."""
    for what, count in Counter(tenants.answers.unjust).items():
        yield f"A tenant with few requests of its own was limited, or not told for how long: {count} x {what}"
    for tenant in tenants.all:
        for owed in tenant.owed:
            yield from _of_batch(tenant, owed)
    left = json.loads(ground.stack.shell(LEFT))
    yield from (f"{what}: {found}" for what, found in left.items() if found)
    proof = ground.stack.manage("billing_reconcile", check=False)  # with all room given back
    for what in ("differences", "books"):
        yield from (f"{what}: {found}" for found in proof[what])


def _of_batch(tenant: Tenant, owed: Owed) -> Iterator[str]:
    batch: Any = tenant.client.batches.retrieve(owed.id)
    if batch.status == "cancelled" and not batch.request_counts.total:
        return  # before its lines were counted
    if batch.status != ("cancelled" if owed.cancelled else "completed"):
        yield f"{owed.id} is {batch.status}: {batch.errors}"
    output = result_lines(tenant.client, batch.output_file_id)
    errors = result_lines(tenant.client, batch.error_file_id)
    yield from stack.broken(batch, owed.custom_ids, output, errors)
    if strange := [
        line["custom_id"] for line in output if line["response"]["body"]["id"] != f"fake-{line['custom_id']}"
    ]:
        yield f"{owed.id}: {len(strange)} answers are those of other lines"
