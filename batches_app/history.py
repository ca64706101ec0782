"""What became of batches on the lanes, for who looks at one."""

from collections.abc import Collection
from datetime import datetime

from batches_app.models import BatchEvent

CLAIMED, RELEASED, LOST = BatchEvent.Kind.CLAIMED, BatchEvent.Kind.RELEASED, BatchEvent.Kind.LOST


def note(kind: BatchEvent.Kind, batch_ids: Collection[int], *, lane: str, owner: str, now: datetime) -> None:
    events = [BatchEvent(batch_id=pk, at=now, kind=kind, lane=lane, owner=owner) for pk in sorted(batch_ids)]
    if events:
        BatchEvent.objects.bulk_create(events)
