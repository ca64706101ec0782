"""Who carries an operation out writes, and nobody else."""

from datetime import timedelta

import pytest
from django.conf import settings
from django.utils import timezone

from batches_app import operation_lease
from batches_app.models import Operation
from tests.factories import BatchFactory

pytestmark = pytest.mark.django_db
State = Operation.State
LEASE = timedelta(seconds=settings.STAGE_LEASE)


def running() -> Operation:
    batch, now = BatchFactory(), timezone.now()
    facts = {"kind": Operation.Kind.CANCEL, "created_by": "olga", "created_at": now, "targets": [batch.pk], "total": 1}
    return Operation.objects.create(state=State.RUNNING, started_at=now, **facts)


def claimed(operation: Operation) -> Operation:
    held = operation_lease.claim(operation.pk, now=timezone.now())
    assert held is not None
    return held


def test_it_is_held_by_one_at_a_time_and_no_other_operation_with_it() -> None:
    operation, other = running(), running()
    claimed(operation)
    assert operation_lease.claim(operation.pk, now=timezone.now()) is None
    other.refresh_from_db()
    assert (other.lease_expires_at, other.attempts) == (None, 0)


def test_after_its_lease_another_holds_it() -> None:
    operation = running()
    claimed(operation)
    held = operation_lease.claim(operation.pk, now=timezone.now() + LEASE + timedelta(seconds=1))
    assert held is not None
    assert held.attempts == 2


def test_each_step_makes_the_lease_longer() -> None:
    held = operation_lease.claim(running().pk, now=timezone.now() - LEASE / 2)
    assert held is not None
    assert held.lease_expires_at is not None
    in_time = held.lease_expires_at + timedelta(seconds=1)
    operation_lease.renew(held, position=1)
    assert operation_lease.claim(held.pk, now=in_time) is None
    assert (Operation.objects.get().position, held.position) == (1, 1)


def test_who_lost_it_writes_nothing() -> None:
    held = claimed(running())
    claimed_again = operation_lease.claim(held.pk, now=timezone.now() + 2 * LEASE)
    assert claimed_again is not None
    with pytest.raises(operation_lease.Lost):
        operation_lease.renew(held, position=1)
    assert Operation.objects.get().position == 0


def test_what_is_given_back_is_free_at_once() -> None:
    operation = running()
    operation_lease.give_back(claimed(operation))
    claimed(operation)


def test_what_has_ended_is_held_by_nobody_and_claimed_no_more() -> None:
    operation = running()
    operation_lease.end(claimed(operation), State.DONE, changed=1)
    operation.refresh_from_db()
    assert (operation.state, operation.changed, operation.lease_expires_at) == (State.DONE, 1, None)
    assert operation.finished_at is not None
    assert operation_lease.claim(operation.pk, now=timezone.now()) is None


def test_a_step_is_that_of_one_operation() -> None:
    now = timezone.now()
    mine, other = (operation_lease.claim(running().pk, now=now) for _ in range(2))
    assert mine is not None
    assert other is not None
    operation_lease.renew(mine, position=1)
    kept = Operation.objects.get(pk=other.pk)
    assert (kept.position, kept.lease_expires_at) == (0, other.lease_expires_at)
