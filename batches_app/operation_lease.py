"""Who carries an operation out holds its lease, and writes nothing without it: of two deliveries of the job, one works.

The lease is known by its end: who takes it over sets another.
"""

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import F, Q

from batches_app import clock
from batches_app.models import Operation

RUNNING = Operation.State.RUNNING


class Lost(Exception):
    """The operation was aborted, or somebody else carries it out."""


def free(now: datetime) -> Q:
    return Q(lease_expires_at=None) | Q(lease_expires_at__lt=now)


def claim(operation_id: int, *, now: datetime) -> Operation | None:
    lease = now + timedelta(seconds=settings.STAGE_LEASE)
    unheld = Operation.objects.filter(free(now), pk=operation_id, state=RUNNING)
    if not unheld.update(lease_expires_at=lease, attempts=F("attempts") + 1):
        return None
    operation = Operation.objects.get(pk=operation_id)
    operation.lease_expires_at = lease  # also where somebody has changed it since: it is what this claim holds
    return operation


def renew(operation: Operation, **changes: Any) -> None:
    """Raises Lost, as the others do: then nothing is written."""
    _move(operation, lease_expires_at=clock.now() + timedelta(seconds=settings.STAGE_LEASE), **changes)


def give_back(operation: Operation) -> None:
    _move(operation, lease_expires_at=None)


def end(operation: Operation, state: Operation.State, **changes: Any) -> None:
    _move(operation, state=state, finished_at=clock.now(), lease_expires_at=None, **changes)


def _move(operation: Operation, **changes: Any) -> None:
    held = Operation.objects.filter(pk=operation.pk, state=RUNNING, lease_expires_at=operation.lease_expires_at)
    if not held.update(**changes):
        raise Lost
    for name, value in changes.items():
        setattr(operation, name, value)
