from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.utils import timezone

from batches_app import jobs, lifecycle, reconciliation
from batches_app.models import Batch
from batches_app.states import Status
from files_app import blobs
from tests.factories import PriceFactory, ServedModelFactory
from tests.stack import request_line
from tests.tenants import Tenant

pytestmark = pytest.mark.django_db


def status(batch: Batch) -> str:
    batch.refresh_from_db()
    return batch.status


def test_a_bell_is_for_whichever_batch_is_next() -> None:
    many, one = Tenant("many"), Tenant("one")
    waiting = [many.has_batch(status=Status.VALIDATING) for _ in range(2)]
    single = one.has_batch(status=Status.VALIDATING)
    jobs.validate(batch_id=waiting[0].pk)
    assert [status(batch) for batch in (*waiting, single)] == [Status.VALIDATING, Status.VALIDATING, Status.FAILED]
    for batch in waiting:
        jobs.validate(batch_id=batch.pk)
    assert [status(batch) for batch in waiting] == [Status.FAILED] * 2
    jobs.validate(batch_id=single.pk)  # nothing is left to do


def test_who_loses_the_race_for_a_batch_takes_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    tenant = Tenant("acme")
    taken, other = (tenant.has_batch(status=Status.VALIDATING) for _ in range(2))
    lifecycle.claim_stage(taken.pk, {Status.VALIDATING}, now=timezone.now())
    chosen: Iterator[int] = iter([taken.pk, other.pk])
    monkeypatch.setattr(lifecycle, "next_to_validate", lambda **_: next(chosen, None))
    jobs.validate(batch_id=taken.pk)
    assert (status(taken), status(other)) == (Status.VALIDATING, Status.FAILED)


def test_a_file_that_cannot_be_read_keeps_nobody_else_waiting() -> None:
    """Its batch is tried again and again, but not before all others; and at its deadline it fails."""
    PriceFactory(model_name=ServedModelFactory(name="m").name)
    line = request_line("1", "hi", "m").encode()
    unlucky, other = Tenant("unlucky"), Tenant("other")
    lost = unlucky.has_batch(status=Status.VALIDATING, source=unlucky.has_file(line))
    blobs.delete(lost.source.blob)  # type: ignore[union-attr]  # it has one
    fine = [other.has_batch(status=Status.VALIDATING, source=other.has_file(line)) for _ in range(2)]
    with pytest.raises(FileNotFoundError):
        jobs.validate(batch_id=lost.pk)
    for batch in fine:
        jobs.validate(batch_id=batch.pk)
    assert [status(batch) for batch in (lost, *fine)] == [Status.VALIDATING, *[Status.IN_PROGRESS] * 2]
    Batch.objects.update(stage_expires_at=timezone.now() - timedelta(seconds=1))
    with pytest.raises(FileNotFoundError):
        jobs.validate(batch_id=lost.pk)
    reconciliation.expire_due(lost.expires_at)
    assert status(lost) == Status.FAILED
    assert [error["code"] for error in lost.errors or []] == ["batch_expired"]
