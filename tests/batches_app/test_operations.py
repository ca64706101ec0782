"""Operations on many batches: resolved once, carried out once, whatever dies."""

import itertools
import time
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import connection
from django.db.models import F
from django.utils import timezone

from batches_app import lifecycle, operations, reconciliation
from batches_app.models import Batch, BatchEvent, Operation
from batches_app.states import Status
from billing_app.models import Account, AuditEntry
from tests.factories import AccountFactory, BatchFactory, PriceFactory
from tests.threads import at_once

OLGA = {"actor": "olga", "address": "10.0.0.7"}
BO = {"actor": "bo", "address": "10.0.0.8"}
State = Operation.State


@pytest.fixture(autouse=True)
def _time_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "TURN", 3600.0)


def batches(count: int, status: Status = Status.IN_PROGRESS) -> list[Batch]:
    shared = {"account": AccountFactory(), "price": PriceFactory(), "status": status}
    return Batch.objects.bulk_create(BatchFactory.build_batch(count, **shared))


def drafted(count: int) -> Operation:
    batches(count)
    return operations.draft_cancel(Batch.objects.all(), by=OLGA, query="", now=timezone.now())


def running(count: int) -> Operation:
    """Started, and too large to be carried out by who starts it."""
    operation = drafted(count)
    Operation.objects.update(state=State.RUNNING, started_at=timezone.now(), reason="wrong prompt")
    operation.refresh_from_db()
    return operation


def now_is_later() -> None:
    """Leases have run out."""
    Operation.objects.update(lease_expires_at=F("lease_expires_at") - timedelta(hours=1))


def cancelled() -> int:
    return Batch.objects.filter(status=Status.CANCELLING).count()


def entries(action: str) -> list[AuditEntry]:
    return list(AuditEntry.objects.filter(action=action).order_by("id"))


def dying_after(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What carries operations out is killed between two batches."""
    count, cancel = itertools.count(1), lifecycle.cancel

    def die(batch: Batch, *given: Any, **when: Any) -> Batch:
        if next(count) > steps:
            raise SystemExit
        return cancel(batch, *given, **when)

    monkeypatch.setattr(lifecycle, "cancel", die)


# Drafts


@pytest.mark.django_db
def test_a_draft_resolves_what_can_be_cancelled_and_counts_the_rest() -> None:
    alive = [*batches(2), *batches(1, Status.VALIDATING)]
    batches(1, Status.COMPLETED), batches(1, Status.FINALIZING), batches(1, Status.CANCELLING)
    operation = operations.draft_cancel(Batch.objects.all(), by=OLGA, query="status=x", now=timezone.now())
    assert (operation.state, operation.targets) == (State.DRAFT, sorted(batch.pk for batch in alive))
    assert (operation.total, operation.left_out, operation.created_by, operation.query) == (3, 3, "olga", "status=x")
    batches(1)  # matches too, and came too late
    assert Operation.objects.get().total == 3


@pytest.mark.django_db
def test_an_operation_has_a_largest_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "MOST_TARGETS", 3)
    drafted(3)
    with pytest.raises(operations.TooMany, match="at most 3 batches"):
        drafted(1)
    assert Operation.objects.count() == 1


@pytest.mark.django_db
def test_there_is_no_operation_on_nothing() -> None:
    batches(2, Status.CANCELLED)
    with pytest.raises(operations.NoTargets, match="nothing to cancel"):
        operations.draft_cancel(Batch.objects.all(), by=OLGA, query="", now=timezone.now())


@pytest.mark.django_db
def test_drafts_are_forgotten_after_a_day_and_what_was_started_is_not() -> None:
    old, fresh = drafted(1), drafted(1)
    started = running(1)
    now = timezone.now()
    Operation.objects.filter(pk__in=[old.pk, fresh.pk]).update(state=State.DRAFT)
    Operation.objects.filter(pk__in=[old.pk, started.pk]).update(created_at=now - timedelta(days=1, seconds=1))
    assert operations.forget_drafts(now) == 1
    assert set(Operation.objects.all()) == {fresh, started}


# Starting


@pytest.mark.django_db(transaction=True)
def test_a_small_operation_is_carried_out_at_once_and_in_the_name_of_who_started_it() -> None:
    operation = drafted(2)
    assert operations.start(operation, "wrong prompt", by=BO, now=timezone.now())
    operation.refresh_from_db()
    assert (operation.state, operation.position, operation.changed, cancelled()) == (State.DONE, 2, 2, 2)
    assert operation.finished_at is not None
    events = BatchEvent.objects.values_list("kind", "owner", "reason")
    assert list(events) == [(BatchEvent.Kind.CANCELLED_BY_OPERATOR, "bo", "wrong prompt")] * 2
    for entry in entries("batch.cancelled"):
        assert (entry.actor, entry.address, entry.reason) == ("bo", "10.0.0.8", "wrong prompt")
        assert entry.changes == {"status": ["in_progress", "cancelling"]}
        assert entry.account == Account.objects.get().name
    assert [
        (e.action, e.actor, e.changes["total"])
        for e in AuditEntry.objects.filter(action__startswith="op").order_by("id")
    ] == [
        ("operation.started", "bo", [None, 2]),
        ("operation.done", "bo", [None, 2]),
    ]


@pytest.mark.django_db(transaction=True)
def test_a_large_one_is_left_to_a_worker(rung: list[Any]) -> None:
    operation = drafted(operations.AT_ONCE + 1)
    assert operations.start(operation, "why", by=OLGA, now=timezone.now())
    assert (cancelled(), rung) == (0, [operation.pk])
    operations.carry_out(operation.pk)
    assert (cancelled(), Operation.objects.get().state) == (operations.AT_ONCE + 1, State.DONE)


@pytest.mark.django_db(transaction=True)
def test_it_is_started_once() -> None:
    operation = drafted(1)
    started = at_once([lambda: operations.start(operation, "why", by=OLGA, now=timezone.now())] * 4)
    assert sorted(started) == [False, False, False, True]
    assert len(entries("operation.started")) == len(entries("batch.cancelled")) == 1


@pytest.mark.django_db
def test_only_what_was_started_is_carried_out() -> None:
    operation = drafted(1)
    operations.carry_out(operation.pk)
    assert cancelled() == 0
    Operation.objects.update(state=State.DONE)
    operations.carry_out(operation.pk)
    assert (cancelled(), Operation.objects.get().lease_expires_at) == (0, None)


# Carrying out


@pytest.mark.django_db(transaction=True)
def test_a_thousand_batches() -> None:
    operation = running(1000)
    operations.carry_out(operation.pk)
    operation.refresh_from_db()
    assert (operation.state, operation.position, operation.changed) == (State.DONE, 1000, 1000)
    assert cancelled() == len(entries("batch.cancelled")) == 1000


@pytest.mark.django_db(transaction=True)
def test_what_ended_meanwhile_is_left_and_listed() -> None:
    operation = running(4)
    ended, stopped = Batch.objects.order_by("id")[1:3]
    Batch.objects.filter(pk=ended.pk).update(status=Status.COMPLETED)
    Batch.objects.filter(pk=stopped.pk).update(status=Status.CANCELLING)
    operations.carry_out(operation.pk)
    operation.refresh_from_db()
    assert (operation.state, operation.position, operation.changed) == (State.DONE, 4, 2)
    assert operation.problems == [[ended.public_id, "completed"], [stopped.public_id, "cancelling"]]
    assert Batch.objects.get(pk=ended.pk).status == Status.COMPLETED
    assert len(entries("batch.cancelled")) == 2
    assert entries("operation.done")[0].changes == {"changed": [None, 2], "unchanged": [None, 2], "total": [None, 4]}


@pytest.mark.django_db(transaction=True)
def test_of_the_problems_the_first_hundred_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "KEPT_PROBLEMS", 2)
    operation = running(5)
    Batch.objects.update(status=Status.COMPLETED)
    operations.carry_out(operation.pk)
    operation.refresh_from_db()
    assert (len(operation.problems), operation.position, operation.changed) == (2, 5, 0)


@pytest.mark.django_db(transaction=True)
def test_after_its_turn_it_makes_way_and_rings_for_the_rest(monkeypatch: pytest.MonkeyPatch, rung: list[Any]) -> None:
    monkeypatch.setattr(operations, "TURN", -1.0)
    operation = running(3)
    operations.carry_out(operation.pk)
    assert (cancelled(), rung) == (1, [operation.pk])
    operations.carry_out(operation.pk)
    operations.carry_out(operation.pk)
    assert (cancelled(), len(rung), Operation.objects.get().state) == (3, 2, State.DONE)


# Crashes and second deliveries


@pytest.mark.django_db(transaction=True)
def test_killed_in_the_middle_it_goes_on_where_it_was(monkeypatch: pytest.MonkeyPatch, rung: list[Any]) -> None:
    operation = running(10)
    with monkeypatch.context() as patch:
        dying_after(4, patch)
        with pytest.raises(SystemExit):
            operations.carry_out(operation.pk)
    assert (cancelled(), Operation.objects.get().position) == (4, 4)
    assert operations.ring_unheld(timezone.now()) == 0  # its lease is not over yet
    assert rung == []
    now_is_later()
    operations.ring_unheld(timezone.now())
    assert rung == [operation.pk]
    operations.carry_out(operation.pk)
    operation.refresh_from_db()
    assert (operation.state, operation.changed, cancelled()) == (State.DONE, 10, 10)
    assert len(entries("batch.cancelled")) == 10
    assert len(entries("operation.done")) == 1


@pytest.mark.django_db(transaction=True)
def test_killed_while_a_batch_is_cancelled_that_batch_is_not_cancelled_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batch, entry and position are one transaction."""
    operation = running(3)
    monkeypatch.setattr(operations, "_count", _die)
    with pytest.raises(SystemExit):
        operations.carry_out(operation.pk)
    assert (cancelled(), len(entries("batch.cancelled"))) == (0, 0)


@pytest.mark.django_db(transaction=True)
def test_what_fails_again_and_again_at_one_batch_is_given_up_and_says_at_which(monkeypatch: pytest.MonkeyPatch) -> None:
    operation = running(4)
    dying_after(2, monkeypatch)
    for _ in range(1 + operations.MOST_ATTEMPTS):  # the first gets somewhere
        with pytest.raises(SystemExit):
            operations.carry_out(operation.pk)
        now_is_later()
        assert Operation.objects.get().state == State.RUNNING
    operations.carry_out(operation.pk)
    operation.refresh_from_db()
    third = Batch.objects.order_by("pk")[2].public_id
    assert (operation.state, operation.changed, operation.problems) == (State.FAILED, 2, [[third, "unforeseen"]])
    assert entries("operation.failed")[0].changes["why"] == [None, "unforeseen"]


@pytest.mark.django_db(transaction=True)
def test_who_gets_on_between_two_deaths_is_not_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    operation = running(operations.MOST_ATTEMPTS + 3)
    for _ in range(operations.MOST_ATTEMPTS + 2):
        with monkeypatch.context() as patch:
            dying_after(1, patch)
            with pytest.raises(SystemExit):
                operations.carry_out(operation.pk)
        now_is_later()
    operations.carry_out(operation.pk)
    assert Operation.objects.get().state == State.DONE


@pytest.mark.django_db(transaction=True)
def test_killed_at_the_very_end_it_still_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    operation = running(2)
    with monkeypatch.context() as patch:
        patch.setattr(operations, "_counts", _die)
        with pytest.raises(SystemExit):
            operations.carry_out(operation.pk)
    assert Operation.objects.get().state == State.RUNNING
    now_is_later()
    operations.carry_out(operation.pk)
    assert (Operation.objects.get().state, len(entries("operation.done"))) == (State.DONE, 1)


@pytest.mark.django_db(transaction=True)
def test_two_deliveries_at_once_do_nothing_twice() -> None:
    operation = running(60)
    at_once([lambda: operations.carry_out(operation.pk)] * 3)
    operation.refresh_from_db()
    assert (operation.state, operation.position, operation.changed) == (State.DONE, 60, 60)
    assert cancelled() == len(entries("batch.cancelled")) == 60
    assert len(entries("operation.done")) == 1


@pytest.mark.django_db(transaction=True)
def test_who_lost_the_lease_to_another_can_write_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped for longer than its lease in mid-step, while somebody else takes over; then it wakes up."""
    operation = running(6)
    overtaken(operation, by=lambda: operations.carry_out(operation.pk), at_step=3, monkeypatch=monkeypatch)
    operation.refresh_from_db()
    assert (operation.state, operation.position, operation.changed, operation.problems) == (State.DONE, 6, 6, [])
    assert cancelled() == len(entries("batch.cancelled")) == 6
    assert len(entries("operation.done")) == 1


@pytest.mark.django_db(transaction=True)
def test_nor_can_who_lost_it_to_another_that_has_died_since(monkeypatch: pytest.MonkeyPatch) -> None:
    operation = running(6)

    def take_over() -> None:
        with monkeypatch.context() as patch:
            dying_after(1, patch)
            with pytest.raises(SystemExit):
                operations.carry_out(operation.pk)

    overtaken(operation, by=take_over, at_step=3, monkeypatch=monkeypatch)
    operation.refresh_from_db()
    assert (operation.state, operation.position, operation.changed, cancelled()) == (State.RUNNING, 3, 3, 3)


def overtaken(operation: Operation, *, by: Callable[[], None], at_step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the transactions of two steps, as SQLite has one writer at a time."""
    steps, free = itertools.count(1), time.monotonic

    def sleep() -> float:
        if next(steps) == at_step:
            now_is_later()
            by()
        return free()

    monkeypatch.setattr(operations, "time", SimpleNamespace(monotonic=sleep))
    operations.carry_out(operation.pk)


# Aborting


@pytest.mark.django_db(transaction=True)
def test_aborted_in_the_middle_nothing_more_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    operation = running(10)

    def abort() -> None:
        assert operations.abort(Operation.objects.get(), by=BO, now=timezone.now())

    overtaken(operation, by=abort, at_step=5, monkeypatch=monkeypatch)
    operation.refresh_from_db()
    assert (operation.state, operation.position, operation.changed, cancelled()) == (State.ABORTED, 4, 4, 4)
    assert operation.finished_at is not None
    (entry,) = entries("operation.aborted")
    assert (entry.actor, entry.changes) == ("bo", {"changed": [None, 4], "unchanged": [None, 0], "total": [None, 10]})
    assert entries("operation.done") == []


@pytest.mark.django_db(transaction=True)
def test_an_abort_beside_a_running_one_says_exactly_what_was_done() -> None:
    operation = running(200)
    at_once(
        [
            lambda: operations.carry_out(operation.pk),
            lambda: operations.abort(operation, by=BO, now=timezone.now()),
        ]
    )
    operation.refresh_from_db()
    assert operation.state in (State.ABORTED, State.DONE)
    assert operation.position == operation.changed == cancelled() == len(entries("batch.cancelled"))


@pytest.mark.django_db
def test_only_a_running_one_is_aborted() -> None:
    operation = drafted(1)
    assert not operations.abort(operation, by=BO, now=timezone.now())
    Operation.objects.update(state=State.DONE)
    assert not operations.abort(operation, by=BO, now=timezone.now())
    assert AuditEntry.objects.count() == 0


# The reconciler


@pytest.mark.django_db(transaction=True)
def test_the_reconciler_rings_those_that_nobody_carries_out(rung: list[Any]) -> None:
    held, lost, unheard, ended = (running(1) for _ in range(4))
    now = timezone.now()
    Operation.objects.filter(pk=held.pk).update(lease_expires_at=now + timedelta(seconds=5))
    Operation.objects.filter(pk=lost.pk).update(lease_expires_at=now - timedelta(seconds=1))
    Operation.objects.filter(pk=ended.pk).update(state=State.DONE)
    reconciliation.reconcile(now=now)
    assert sorted(rung) == sorted([lost.pk, unheard.pk])


@pytest.fixture
def rung(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The operations that a bell was rung for, once committed."""
    heard: list[Any] = []

    def hear(job: Any, job_id: str, ttl: Any, kwargs: dict[str, Any]) -> bool:
        assert not connection.in_atomic_block
        if "operation_id" in kwargs:
            heard.append(kwargs["operation_id"])
        return True

    monkeypatch.setattr("batches_app.queue._enqueue", hear)
    return heard


def _die(*_: object) -> None:
    raise SystemExit
