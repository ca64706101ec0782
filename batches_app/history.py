"""What became of batches on the lanes, and who stopped them, for who looks at one."""

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple

from batches_app.models import Batch, BatchEvent

Kind = BatchEvent.Kind
CLAIMED, RELEASED, LOST = Kind.CLAIMED, Kind.RELEASED, Kind.LOST


class Stop(NamedTuple):
    """`by`: the operator's name, or what the tenant's key is known by."""

    kind: Kind
    by: str = ""
    reason: str = ""


FOR_CREDIT = Stop(Kind.CANCELLED_FOR_CREDIT)


def by_tenant(key: object) -> Stop:
    return Stop(Kind.CANCELLED_BY_TENANT, str(key))


def by_operator(name: str, reason: str) -> Stop:
    return Stop(Kind.CANCELLED_BY_OPERATOR, name, reason)


def note(kind: Kind, batch_ids: Collection[int], *, lane: str, owner: str, now: datetime) -> None:
    events = [BatchEvent(batch_id=pk, at=now, kind=kind, lane=lane, owner=owner) for pk in sorted(batch_ids)]
    if events:
        BatchEvent.objects.bulk_create(events)


def note_stop(batch: Batch, stop: Stop, *, now: datetime) -> None:
    kind, by, reason = stop
    BatchEvent.objects.create(batch=batch, at=now, kind=kind, owner=by[:200], reason=reason[:500])
