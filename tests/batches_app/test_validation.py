from collections.abc import Iterator

import pytest
from django.utils import timezone

from batches_app import jobs, lifecycle
from batches_app.models import Batch
from batches_app.states import Status
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
