from datetime import timedelta
from itertools import product

import pytest
from django.utils import timezone
from structlog.contextvars import bound_contextvars, get_contextvars

from batches_app import lifecycle, queue
from batches_app.models import Batch, Shard
from batches_app.states import ALLOWED_FROM, TERMINAL, Status
from billing_app import running_counts
from files_app.models import FileHold
from tests.factories import BY_TENANT, AccountFactory, BatchFactory, ShardFactory, StoredFileFactory

pytestmark = pytest.mark.django_db
NOW = timezone.now()


@pytest.fixture(autouse=True)
def _silent_bells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "ring", lambda *_, **__: None)


def _new(file_id: str = "file-batch-x", **changes: object) -> lifecycle.NewBatch:
    facts = {"endpoint": "/v1/embeddings", "input_file_id": file_id, "completion_window": "24h"} | changes
    return lifecycle.NewBatch(window=timedelta(hours=24), **facts)  # type: ignore[arg-type]  # as the caller says


@pytest.mark.parametrize(("before", "to"), list(product(Status, Status)))
def test_only_the_ways_of_the_table_are_open(before: Status, to: Status) -> None:
    """B5: a terminal state never changes."""
    batch = BatchFactory(status=before)
    moved = lifecycle.move(batch.pk, to, now=NOW)
    batch.refresh_from_db()
    assert moved == (before in ALLOWED_FROM[to])
    assert batch.status == (to if moved else before)
    assert not (moved and before in TERMINAL)
    if moved:
        assert getattr(batch, f"{to}_at") == NOW
    assert running_counts.all_named() == ({f"batches.{to}": 1} if moved and to in TERMINAL else {})


def test_creating_holds_the_input_file() -> None:
    """F6: the bytes stay until the batch has ended."""
    file = StoredFileFactory()
    batch = lifecycle.create(file.account, None, _new(file.public_id), now=NOW)
    assert batch.source == file
    assert FileHold.objects.get().holder == batch.public_id
    lifecycle.fail(batch, [], now=NOW)
    assert not FileHold.objects.exists()


def test_another_accounts_file_is_as_good_as_none() -> None:
    """C7, V11."""
    batch = lifecycle.create(AccountFactory(), None, _new(StoredFileFactory().public_id), now=NOW)
    assert batch.source is None


def test_the_same_idempotency_key_gives_the_same_batch_or_a_conflict() -> None:
    """C5: per account."""
    account = AccountFactory()
    first = lifecycle.create(account, None, _new(idempotency_key="k"), now=NOW)
    assert lifecycle.create(account, None, _new(idempotency_key="k"), now=NOW) == first
    with pytest.raises(lifecycle.IdempotencyConflict):
        lifecycle.create(account, None, _new(idempotency_key="k", metadata={"a": "b"}), now=NOW)
    lifecycle.create(AccountFactory(), None, _new(idempotency_key="k"), now=NOW)
    assert Batch.objects.count() == 2


def test_cancelling_closes_what_waits_and_says_no_to_what_has_ended() -> None:
    """B8."""
    shard = ShardFactory()
    assert lifecycle.cancel(shard.batch, BY_TENANT, now=NOW).status == Status.CANCELLING
    (event,) = shard.batch.events.all()
    assert (event.kind, event.owner, event.at) == (*BY_TENANT[:2], NOW)
    shard.refresh_from_db()
    assert shard.state == Shard.State.CLOSED
    assert lifecycle.cancel(shard.batch, BY_TENANT, now=NOW).status == Status.CANCELLING
    with pytest.raises(lifecycle.NotCancellable):
        lifecycle.cancel(BatchFactory(status=Status.FINALIZING), BY_TENANT, now=NOW)


def test_a_batch_is_done_when_every_shard_is() -> None:
    shard = ShardFactory()
    lifecycle.complete_if_done([shard.batch_id], now=NOW)
    assert Batch.objects.get().status == Status.IN_PROGRESS
    Shard.objects.update(state=Shard.State.DONE)
    lifecycle.complete_if_done([shard.batch_id], now=NOW)
    assert Batch.objects.get().status == Status.FINALIZING
    assert Batch.objects.get().sealed_at == NOW


def test_a_stopped_batch_is_sealed_only_once_no_lane_works_on_it() -> None:
    shard = ShardFactory(state=Shard.State.RUNNING)
    lifecycle.cancel(shard.batch, BY_TENANT, now=NOW)
    assert not lifecycle.seal_if_drained(shard.batch, now=NOW)
    Shard.objects.update(state=Shard.State.CLOSED)
    assert lifecycle.seal_if_drained(shard.batch, now=NOW)


def test_a_stage_has_one_holder_and_its_lease_runs_out() -> None:
    batch = BatchFactory(status=Status.VALIDATING)
    assert lifecycle.claim_stage(batch.pk, {Status.VALIDATING}, now=NOW)
    assert lifecycle.claim_stage(batch.pk, {Status.VALIDATING}, now=NOW) is None
    assert lifecycle.claim_stage(batch.pk, {Status.VALIDATING}, now=NOW + timedelta(hours=1))
    assert lifecycle.claim_stage(batch.pk, {Status.FINALIZING}, now=NOW + timedelta(hours=2)) is None


def test_what_is_logged_from_here_on_is_about_the_batch() -> None:
    """Also by RQ, when the stage has failed and its own code is left."""
    batch = BatchFactory(status=Status.VALIDATING, account=AccountFactory(name="acme"))
    with bound_contextvars(batch="", account=""):
        lifecycle.claim_stage(batch.pk, {Status.VALIDATING}, now=NOW)
        found = get_contextvars()
        assert (found["batch"], found["account"]) == (batch.public_id, "acme")


def test_who_brings_one_batch_is_not_behind_who_brings_many() -> None:
    many, one = AccountFactory(), AccountFactory()
    first, second, third = (BatchFactory(account=many, status=Status.VALIDATING).pk for _ in range(3))
    single = BatchFactory(account=one, status=Status.VALIDATING).pk
    BatchFactory(account=one, status=Status.IN_PROGRESS)
    assert _order_of_validation() == [single, first, second, third]


def test_what_a_job_validates_is_next_again_when_its_lease_is_over() -> None:
    batch = BatchFactory(status=Status.VALIDATING)
    lifecycle.claim_stage(batch.pk, {Status.VALIDATING}, now=NOW)
    assert lifecycle.next_to_validate(now=NOW) is None
    assert lifecycle.next_to_validate(now=NOW + timedelta(days=1)) == batch.pk


def _order_of_validation() -> list[int]:
    found: list[int] = []
    while (pk := lifecycle.next_to_validate(now=NOW)) is not None:
        assert lifecycle.claim_stage(pk, {Status.VALIDATING}, now=NOW)
        found.append(pk)
    return found
