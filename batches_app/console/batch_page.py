"""One batch: how it gets on and why it does not, what it costs, what failed, and what can be done."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone

from batches_app import error_groups, operations, progress, waiting
from batches_app.console import causes, timeline
from batches_app.models import Batch
from batches_app.results import ErrorCode
from batches_app.states import TERMINAL, Status
from config.console.access import page
from files_app.models import StoredFile

SHOWN_ERRORS = 50  # of validation
UNRUN = (ErrorCode.BATCH_CANCELLED, ErrorCode.BATCH_EXPIRED)


@page("batches_app.view_batch")
def batch(request: HttpRequest, public_id: str) -> HttpResponse:
    found = find(public_id)
    context = _context(found, timezone.now()) | {"all_errors": "errors" in request.GET}
    template = "console/_batch.html" if getattr(request, "htmx", False) else "console/batch.html"
    return render(request, template, context)


def find(public_id: str) -> Batch:
    related = ("account", "price", "model", "api_key", "parent")
    found = Batch.objects.select_related(*related).filter(public_id=public_id[:64].replace("\0", "")).first()
    if found is None:
        raise Http404
    return found


def _context(batch: Batch, now: datetime) -> dict[str, Any]:
    groups = list(batch.error_groups.all())
    is_final = batch.status in TERMINAL
    return {
        "batch": batch,
        "is_final": is_final,
        "is_cancellable": batch.status in operations.CANCELLABLE,
        "is_retryable": is_final and batch.status != Status.FAILED and batch.completed < batch.total,
        "pace": Pace.of(batch, now),
        "reasons": [causes.sentence(reason) for reason in waiting.why_waiting(batch, now=now)],
        "groups": groups,
        "failed_lines": batch.total - batch.completed if is_final else sum(group.count for group in groups),
        "untold": batch.failed > sum(group.count for group in groups),
        "unrun": UNRUN,
        "other": error_groups.OTHER,
        "invalid": list(_validation_errors(batch)),
        "files": _files(batch),
        "retries": list(batch.retries.only("public_id", "status", "retried_code", "parent")[:20]) if is_final else [],
        "metadata": sorted((batch.metadata or {}).items()),
        "timeline": timeline.of(batch),
    }


@dataclass(frozen=True, slots=True)
class Pace:
    """`rate`: lines a second. `cost_in_all`: what it will have cost, as its lines so far suggest."""

    rate: float
    eta: datetime | None
    is_late: bool
    left: int
    unrun: int
    cost: Decimal
    cost_in_all: Decimal | None

    @classmethod
    def of(cls, batch: Batch, now: datetime) -> "Pace":
        runs = batch.status == Status.IN_PROGRESS
        rate = progress.rates([batch.pk], now=now).get(batch.pk, 0.0) if runs else 0.0
        eta = progress.eta(batch, rate, now=now)
        done = batch.completed + batch.failed
        return cls(
            rate=rate,
            eta=eta,
            is_late=bool(eta and eta > batch.expires_at),
            left=batch.total - done if batch.status not in TERMINAL else 0,
            unrun=batch.total - done if batch.status in (Status.CANCELLED, Status.EXPIRED) else 0,
            cost=batch.cost,
            cost_in_all=batch.cost * batch.total / done if runs and done else None,
        )


def _validation_errors(batch: Batch) -> Iterator[dict[str, Any]]:
    yield from batch.errors or []


@dataclass(frozen=True, slots=True)
class Kept:
    """A file of the batch; `file` is None where it is gone."""

    kind: str
    public_id: str
    file: StoredFile | None


def _files(batch: Batch) -> list[Kept]:
    ids = {"input": batch.input_file_id, "output": batch.output_file_id, "error": batch.error_file_id}
    known_ids = [public_id for public_id in ids.values() if public_id]
    # The input's id is what the tenant wrote: it may be the id of another's file.
    rows = StoredFile.objects.filter(account=batch.account_id, public_id__in=known_ids)
    known = {row.public_id: row for row in rows}
    return [Kept(kind, public_id, known.get(public_id)) for kind, public_id in ids.items() if public_id]
