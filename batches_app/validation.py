"""From `validating` to `in_progress` or `failed` (V1-V12)."""

import logging

from django.db import transaction

from batches_app import admission, clock, lanes, lifecycle
from batches_app.inspection import Inspection, inspect
from batches_app.models import Batch, ServedModel, Shard
from batches_app.request_lines import Violation
from batches_app.sharding import ShardPlan
from batches_app.states import Status
from billing_app import prices
from files_app.models import StoredFile

log = logging.getLogger(__name__)


class Superseded(Exception):
    """The batch was cancelled meanwhile, or another job took the stage."""


def validate_next() -> None:
    while (batch_id := lifecycle.next_to_validate(now=clock.now())) is not None:
        if validate(batch_id):
            return


def validate(batch_id: int) -> bool:
    """False: it does not wait for that, or another job does it."""
    batch = lifecycle.claim_stage(batch_id, {Status.VALIDATING}, now=clock.now())
    if batch is None:
        return False
    try:
        _validate(batch)
    except Superseded:
        log.info("%s was stopped while it was validated.", batch)
    # After any other exception the lease is left to run out: released, the batch would be the next again at once,
    # and those behind it would wait for as long as its file cannot be read.
    lifecycle.release_stage(batch)
    lifecycle.ring_if_ending(batch)
    return True


def _validate(batch: Batch) -> None:
    found = _inspect(batch)
    violations = found.violations or _begin(batch, found)
    if violations:
        lifecycle.fail(batch, [violation.as_json() for violation in violations], now=clock.now())


def _inspect(batch: Batch) -> Inspection:
    file = batch.source
    if file is None:
        message = f"The file '{batch.input_file_id}' does not exist, or is not one of this account's."
        return Inspection([Violation("invalid_request", message, "file_id", None)])
    if file.purpose != StoredFile.Purpose.BATCH:
        message = f"The file '{batch.input_file_id}' has the purpose '{file.purpose}'. Supported is 'batch'."
        return Inspection([Violation("invalid_request", message, "file_id", None)])
    return inspect(file, batch.endpoint, at=batch.created_at, every_second=lambda: _renew(batch))


def _renew(batch: Batch) -> None:
    if not lifecycle.renew_stage(batch, now=clock.now()):
        raise Superseded


def _begin(batch: Batch, found: Inspection) -> list[Violation]:
    """All shards, the hold and `in_progress`, in one transaction; or the violation that only shows here."""
    assert found.model_name is not None  # of a file without violations
    model = ServedModel.objects.get(name=found.model_name)
    price = prices.current(model.name, at=batch.created_at)
    assert price is not None  # V6
    needed, now = admission.need(found), clock.now()
    try:
        with transaction.atomic():
            admission.check_enqueued(batch.account, model.name, needed)
            facts = {"total": found.requests, "enqueued_tokens": needed.enqueued}
            if not lifecycle.begin(batch, model=model, price=price, now=now, **facts):
                raise Superseded
            admission.hold(batch, price, needed, now=now)
            Shard.objects.bulk_create([_shard(batch, model, shard) for shard in found.plan], batch_size=500)
            transaction.on_commit(lambda: lanes.ring_lanes(model.pk))
    except admission.NotAdmitted as error:
        return [error.violation]
    return []


def _shard(batch: Batch, model: ServedModel, plan: ShardPlan) -> Shard:
    return Shard(
        batch=batch,
        model=model,
        account_id=batch.account_id,
        deadline=batch.expires_at,
        first_line=plan.first_line,
        last_line=plan.last_line,
        requests=plan.requests,
        offset=plan.offset,
        size=plan.size,
    )
