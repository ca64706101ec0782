from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any

from django.conf import settings

from batches_app.api.metadata import read_metadata
from batches_app.api.windows import SUPPORTED, parse_window
from batches_app.estimates import Estimate
from batches_app.lifecycle import NewBatch
from batches_app.models import Batch, ServedModel
from batches_app.models.routing import TEST_ENDPOINT, UPSTREAM_ENDPOINTS
from billing_app.models import Price
from billing_app.pricing import Rates, Tokens, charge, most_charge, plain
from config.api.errors import InvalidValue
from config.api.fields import expires_after_object, idempotency_key, required_string, unix

ENDPOINTS = (*UPSTREAM_ENDPOINTS, TEST_ENDPOINT)
ID_LENGTH = 64  # of the column; no id of ours is longer


def batch_as_wire(batch: Batch) -> dict[str, Any]:
    """B4, in its order"""
    return {
        "id": batch.public_id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "model": batch.model_name or None,
        "errors": None if batch.errors is None else {"object": "list", "data": _in_order(batch.errors)},
        "input_file_id": batch.input_file_id,
        "completion_window": batch.completion_window,
        "status": batch.status,
        "output_file_id": batch.output_file_id or None,
        "error_file_id": batch.error_file_id or None,
        "created_at": unix(batch.created_at),
        "in_progress_at": unix(batch.in_progress_at),
        "expires_at": unix(batch.expires_at),
        "finalizing_at": unix(batch.finalizing_at),
        "completed_at": unix(batch.completed_at),
        "failed_at": unix(batch.failed_at),
        "expired_at": unix(batch.expired_at),
        "cancelling_at": unix(batch.cancelling_at),
        "cancelled_at": unix(batch.cancelled_at),
        "request_counts": {"total": batch.total, "completed": batch.completed, "failed": batch.failed},
        "usage": {
            "input_tokens": batch.input_tokens,
            "input_tokens_details": {"cached_tokens": batch.cached_tokens},
            "output_tokens": batch.output_tokens,
            "output_tokens_details": {"reasoning_tokens": batch.reasoning_tokens},
            "total_tokens": batch.input_tokens + batch.output_tokens,
        },
        "metadata": batch.metadata,
        "cost": {"amount": plain(batch.cost), "currency": settings.CURRENCY},
    }


def _in_order(violations: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """PostgreSQL keeps members by the length of their names."""
    return [{name: violation.get(name) for name in ("code", "message", "param", "line")} for violation in violations]


def model_as_wire(model: ServedModel) -> dict[str, Any]:
    return {"id": model.name, "object": "model", "created": unix(model.created_at), "owned_by": "batchdesk"}


def estimate_as_wire(found: Estimate, input_file_id: str, endpoint: str) -> dict[str, Any]:
    """`likely` and `most`: tokens (counted from bytes) and what they cost, null where the file has errors."""
    errors = [violation.as_json() for violation in found.found.violations]
    return {
        "object": "batch.estimate",
        "input_file_id": input_file_id,
        "endpoint": endpoint,
        "model": found.found.model_name,
        "requests": found.found.requests,
        "likely": _cost_as_wire(found.likely, found.price, charge),
        "most": _cost_as_wire(found.most, found.price, most_charge),
        "output_tokens_from": "history" if found.from_history else "max_tokens",
        "errors": {"object": "list", "data": errors} if errors else None,
        "would_run": not errors and not found.obstacles,
        "obstacles": [{"code": obstacle.code, "message": obstacle.message} for obstacle in found.obstacles],
    }


def _cost_as_wire(
    tokens: Tokens | None, price: Price | None, cost: Callable[[Tokens, Rates], Decimal]
) -> dict[str, Any] | None:
    if tokens is None or price is None:
        return None
    return {
        "input_tokens": tokens.input,
        "output_tokens": tokens.output,
        "cost": {"amount": plain(cost(tokens, price.rates)), "currency": price.currency},
    }


def read_input(data: Mapping[str, Any]) -> tuple[str, str]:
    """The input file's id and the endpoint."""
    input_file_id = required_string(data, "input_file_id")
    if len(input_file_id) > ID_LENGTH:
        raise InvalidValue("input_file_id", input_file_id, "ids of uploaded files")
    endpoint = required_string(data, "endpoint")
    if endpoint not in ENDPOINTS:
        raise InvalidValue("endpoint", endpoint, ", ".join(f"'{known}'" for known in ENDPOINTS))
    return input_file_id, endpoint


def read_new_batch(data: Mapping[str, Any], meta: Mapping[str, Any]) -> NewBatch:
    """B1, B2, B3"""
    input_file_id, endpoint = read_input(data)
    completion_window = required_string(data, "completion_window")
    window = parse_window(completion_window)
    if window is None:
        raise InvalidValue("completion_window", completion_window, SUPPORTED)
    return NewBatch(
        endpoint=endpoint,
        input_file_id=input_file_id,
        completion_window=completion_window,
        window=window,
        metadata=read_metadata(data.get("metadata")),
        output_expires_after=expires_after_object(data.get("output_expires_after"), "output_expires_after"),
        idempotency_key=idempotency_key(meta, data.get("idempotency_key")),
    )
