"""Reading an input file once, from end to end: every violation (V1-V11), or what its requests need."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO, cast

from django.conf import settings

from batches_app.models import ServedModel
from batches_app.request_lines import Checker, ModelRules, Violation
from batches_app.sharding import Planner, ShardPlan
from billing_app import prices
from files_app import blobs, jsonl
from files_app.models import StoredFile


@dataclass(frozen=True, slots=True)
class Inspection:
    """`violations` in file order. `output_tokens`: the most that the answers may have together."""

    violations: list[Violation]
    model_name: str | None = None
    requests: int = 0
    body_bytes: int = 0
    output_tokens: int = 0
    plan: tuple[ShardPlan, ...] = ()


def inspect(
    file: StoredFile, endpoint: str, *, at: datetime, every_second: Callable[[], None] = lambda: None
) -> Inspection:
    """`at`: when the batch was created, or would be. `every_second` is called about once a second meanwhile."""
    with blobs.read(file.blob) as blob:
        return _read(cast(BinaryIO, blob), endpoint, at, every_second)


def _read(file: BinaryIO, endpoint: str, at: datetime, every_second: Callable[[], None]) -> Inspection:
    checker = Checker(
        endpoint=endpoint,
        find_model=lambda name: _rules(name, at),
        max_requests=settings.MAX_REQUESTS,
        max_line_bytes=settings.MAX_LINE_BYTES,
        max_inputs=settings.MAX_EMBEDDING_INPUTS,
        bytes_per_token=settings.CONTEXT_BYTES_PER_TOKEN,
    )
    planner = Planner(settings.SHARD_REQUESTS, settings.SHARD_BYTES)
    violations: list[Violation] = []
    next_call = time.monotonic() + 1
    for line in jsonl.read_lines(file, max_bytes=settings.MAX_LINE_BYTES):
        violations += checker.check(line)
        if checker.full or len(violations) >= settings.MAX_VALIDATION_ERRORS:
            return Inspection(violations[: settings.MAX_VALIDATION_ERRORS])
        planner.add(line)
        if time.monotonic() > next_call:
            next_call = time.monotonic() + 1
            every_second()
    return Inspection(
        violations + checker.finish(),
        checker.model,
        checker.requests,
        checker.body_bytes,
        checker.output_tokens,
        tuple(planner.finish()),
    )


def _rules(name: str, at: datetime) -> ModelRules | None:
    """V6. A model that has no price is not served: what it does could not be billed."""
    model = ServedModel.objects.filter(name=name, is_enabled=True).first()
    if model is None or prices.current(name, at=at) is None:
        return None
    most_output = model.max_output_tokens or model.context_tokens or settings.HOLD_OUTPUT_TOKENS
    return ModelRules(model.name, frozenset(model.endpoints), model.context_tokens, most_output)
