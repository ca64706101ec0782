"""The filtered list as CSV: all of it, in constant memory."""

from collections.abc import Iterator
from datetime import datetime, tzinfo

from django.conf import settings
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils import timezone

from batches_app.console.batch_filters import InvalidFilters, filtered
from batches_app.console.batch_rows import Row, columns, told
from batches_app.console.batch_view import NEWEST, SORTS
from batches_app.models import Batch
from billing_app import audit
from billing_app.pricing import plain
from config.console import csv, keyset
from config.console.access import page

CHUNK = 1000
TIMES = ("created_at", "expires_at", "in_progress_at", "completed_at", "failed_at", "expired_at", "cancelled_at")


@page("batches_app.view_batch")
def batches_csv(request: HttpRequest) -> HttpResponseBase:
    try:
        batches = filtered(request.GET)
    except InvalidFilters as error:
        return HttpResponse(str(error), status=400, content_type="text/plain; charset=utf-8")
    audit.record_export(request, "batches")
    now = timezone.localtime()
    # Taken along: while the rows are written, the middleware that knows the viewer's zone is done.
    zone = timezone.get_current_timezone()
    return csv.stream(f"batches {now:%Y-%m-%d %H%M}.csv", _header(str(zone)), _rows(batches, zone))


def _header(zone: str) -> list[str]:
    return [
        *("id", "name", "account", "model", "endpoint", "status"),
        *("requests", "completed", "failed", "top_error", "top_error_count"),
        *("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens"),
        f"charged ({settings.CURRENCY})",
        *(f"{name} ({zone})" for name in TIMES),
        *("input_file_id", "output_file_id", "error_file_id"),
    ]


def _rows(batches: QuerySet[Batch], zone: tzinfo) -> Iterator[list[object]]:
    """In an order in which no batch moves meanwhile, whatever becomes of it."""
    order, _label = SORTS[NEWEST]
    for chunk in keyset.chunks(batches, order, CHUNK, columns=columns()):
        for row in told(chunk):
            yield _cells(row, zone)


def _cells(row: Row, zone: tzinfo) -> list[object]:
    batch, error = row.batch, row.error
    return [
        *(batch.public_id, batch.name, batch.account.name, batch.model_name, batch.endpoint, batch.status),
        *(batch.total, batch.completed, batch.failed, *((error.code, error.count) if error else ("", ""))),
        *(batch.input_tokens, batch.cached_tokens, batch.output_tokens, batch.reasoning_tokens),
        plain(row.charged),
        *(_local(getattr(batch, name), zone) for name in TIMES),
        *(batch.input_file_id, batch.output_file_id, batch.error_file_id),
    ]


def _local(at: datetime | None, zone: tzinfo) -> str:
    return f"{at.astimezone(zone):%Y-%m-%d %H:%M:%S}" if at else ""
