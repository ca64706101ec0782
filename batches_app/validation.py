"""One streaming pass over an input file: every violation, or the plan of shards (V1-V12)."""

import logging
import time
from collections.abc import Sequence
from datetime import datetime
from typing import BinaryIO, cast

from django.conf import settings
from django.db import transaction
from django.db.models import Sum
from django.utils import timezone

from batches_app import lanes, lifecycle
from batches_app.models import Batch, ServedModel, Shard
from batches_app.request_lines import Checker, ModelRules, Violation
from batches_app.sharding import Planner, ShardPlan
from batches_app.states import TERMINAL, Status
from billing_app import prices
from billing_app.models import EnqueuedTokenLimit, Price
from files_app import blobs, jsonl
from files_app.models import StoredFile

log = logging.getLogger(__name__)

BYTES_PER_TOKEN = 4  # an estimate, for what is enqueued (V12)


class Superseded(Exception):
    """The batch was cancelled meanwhile, or another job took the stage."""


def validate(batch_id: int) -> None:
    batch = lifecycle.claim_stage(batch_id, {Status.VALIDATING}, now=timezone.now())
    if batch is None:
        return
    try:
        _validate(batch)
    except Superseded:
        log.info("%s was stopped while it was validated.", batch)
    finally:
        lifecycle.release_stage(batch)
    lifecycle.ring_if_ending(batch)


def _validate(batch: Batch) -> None:
    violations, checker, plan = _read(batch)
    if not violations and checker is not None and checker.model is not None:
        violations = _begin(batch, checker, checker.model, plan)
    if violations:
        first = violations[: settings.MAX_VALIDATION_ERRORS]
        lifecycle.fail(batch, [violation.as_json() for violation in first], now=timezone.now())


def _read(batch: Batch) -> tuple[list[Violation], Checker | None, list[ShardPlan]]:
    file = batch.source
    if file is None:
        message = f"The file '{batch.input_file_id}' does not exist, or is not one of this account's."
        return [Violation("invalid_request", message, "file_id", None)], None, []
    if file.purpose != StoredFile.Purpose.BATCH:
        message = f"The file '{batch.input_file_id}' has the purpose '{file.purpose}'. Supported is 'batch'."
        return [Violation("invalid_request", message, "file_id", None)], None, []
    with blobs.read(file.blob) as blob:
        return _check(batch, cast(BinaryIO, blob))


def _check(batch: Batch, file: BinaryIO) -> tuple[list[Violation], Checker, list[ShardPlan]]:
    checker = Checker(
        endpoint=batch.endpoint,
        find_model=lambda name: _rules(name, batch.created_at),
        max_requests=settings.MAX_REQUESTS,
        max_line_bytes=settings.MAX_LINE_BYTES,
        max_inputs=settings.MAX_EMBEDDING_INPUTS,
        bytes_per_token=settings.CONTEXT_BYTES_PER_TOKEN,
    )
    planner = Planner(settings.SHARD_REQUESTS, settings.SHARD_BYTES)
    violations: list[Violation] = []
    next_renewal = time.monotonic() + 1
    for line in jsonl.read_lines(file, max_bytes=settings.MAX_LINE_BYTES):
        violations += checker.check(line)
        if checker.full or len(violations) >= settings.MAX_VALIDATION_ERRORS:
            return violations, checker, []
        planner.add(line)
        if time.monotonic() > next_renewal:
            next_renewal = time.monotonic() + 1
            if not lifecycle.renew_stage(batch, now=timezone.now()):
                raise Superseded
    return violations + checker.finish(), checker, planner.finish()


def _rules(name: str, at: datetime) -> ModelRules | None:
    """V6. A model that has no price is not served: what it does could not be billed."""
    model = ServedModel.objects.filter(name=name, is_enabled=True).first()
    if model is None or prices.current(name, at=at) is None:
        return None
    return ModelRules(model.name, frozenset(model.endpoints), model.context_tokens)


def _begin(batch: Batch, checker: Checker, model_name: str, plan: Sequence[ShardPlan]) -> list[Violation]:
    """All shards and `in_progress`, in one transaction; or the violation that only shows here (V12)."""
    model = ServedModel.objects.get(name=model_name)
    tokens = checker.body_bytes // BYTES_PER_TOKEN
    with transaction.atomic():
        violations = _check_enqueued(batch, model_name, tokens)
        if violations:
            return violations
        if not lifecycle.begin(
            batch,
            model=model,
            price=cast(Price, prices.current(model_name, at=batch.created_at)),
            total=checker.requests,
            enqueued_tokens=tokens,
            now=timezone.now(),
        ):
            raise Superseded
        Shard.objects.bulk_create([_shard(batch, model, shard) for shard in plan], batch_size=500)
        transaction.on_commit(lambda: lanes.ring_lanes(model.pk))
    return []


def _check_enqueued(batch: Batch, model_name: str, tokens: int) -> list[Violation]:
    # Locked, so that of two batches which fit only one by one the second sees the first.
    limits = EnqueuedTokenLimit.objects.select_for_update().filter(account=batch.account, model_name=model_name)
    limit = limits.first()
    if limit is None:
        return []
    alive = Batch.objects.filter(account=batch.account, model_name=model_name).exclude(status__in=list(TERMINAL))
    enqueued = alive.aggregate(tokens=Sum("enqueued_tokens", default=0))["tokens"]
    if enqueued + tokens <= limit.tokens:
        return []
    message = (
        f"Enqueued token limit reached for {model_name}: the limit is {limit.tokens:,} tokens, "
        f"{enqueued:,} are enqueued and this batch has about {tokens:,}. "
        "Please try again once some of the batches in progress are finished."
    )
    return [Violation("token_limit_exceeded", message, None, None)]


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
