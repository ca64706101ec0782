"""One batch: how it gets on and why it does not, what it costs, what failed, and what can be done."""

from datetime import datetime
from typing import Any

from django import forms
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.http import urlencode

from batches_app import error_groups, operations, waiting
from batches_app.console import batch_files, causes, contents, pace, timeline
from batches_app.models import Batch
from batches_app.results import ErrorCode
from batches_app.states import TERMINAL, Status
from config.console.access import page
from config.console.filtering import FilterForm, problems_of

SHOWN_ERRORS = 50  # of the input file, until all are asked for
SHOWN_RETRIES = 20
UNRUN = (ErrorCode.BATCH_CANCELLED, ErrorCode.BATCH_EXPIRED)


class View(FilterForm):
    faults = forms.ChoiceField(choices=[("all", "")], required=False)
    seen = forms.CharField(max_length=200, required=False)  # see contents.viewed_live


@page("batches_app.view_batch")
def batch(request: HttpRequest, public_id: str) -> HttpResponse:
    found, form = find(public_id), View(request.GET)
    problems = problems_of(form)
    context = _told(found, timezone.now()) | {"problems": problems}
    context |= _errors(found, shows_all=not problems and bool(form.cleaned_data["faults"]))
    context["live_url"] = _live_url(request, found, context)
    template = "console/_batch.html" if getattr(request, "htmx", False) else "console/batch.html"
    return render(request, template, context, status=400 if problems else 200)


def find(public_id: str) -> Batch:
    related = ("account", "price", "model", "api_key", "parent", "source")
    found = Batch.objects.select_related(*related).filter(public_id=public_id[:64].replace("\0", "")).first()
    if found is None:
        raise Http404
    return found


def _told(batch: Batch, now: datetime) -> dict[str, Any]:
    is_final = batch.status in TERMINAL
    reasons = waiting.why_waiting(batch, now=now)
    files = batch_files.of(batch)
    results = [kept for kept in files if kept.kind != batch_files.INPUT]
    return {
        "batch": batch,
        "is_final": is_final,
        "is_cancellable": batch.status in operations.CANCELLABLE,
        "pace": pace.of(batch, now),
        "reasons": [causes.sentence(reason) for reason in reasons],
        "files": files,
        "retries": list(batch.retries.only("public_id", "status", "retried_code", "parent")[:SHOWN_RETRIES])
        if is_final
        else [],
        "metadata": sorted((batch.metadata or {}).items()),
        "timeline": timeline.of(batch, results),
    }


def _errors(batch: Batch, *, shows_all: bool) -> dict[str, Any]:
    """Of its input file, found by validation; or of its lines, by code."""
    faults, groups, is_final = batch.errors or [], list(batch.error_groups.all()), batch.status in TERMINAL
    told = sum(group.count for group in groups)
    return {
        "faults": faults if shows_all else faults[:SHOWN_ERRORS],
        "fault_count": len(faults),
        "groups": groups,
        "untold": batch.failed > told,
        "failed_lines": batch.total - batch.completed if is_final else told,
        "is_retryable": is_final and batch.status != Status.FAILED and batch.completed < batch.total,
        "unrun": UNRUN,
        "other": error_groups.OTHER,
    }


def _live_url(request: HttpRequest, batch: Batch, context: dict[str, Any]) -> str:
    """Of its polls: known by it as such, they do not fill the audit log."""
    shown = [name for name in ("metadata", "groups", "faults") if context[name]]
    if not shown or not request.user.has_perm(contents.READ):
        return request.path
    seen = contents.viewed_live(request, batch, ", ".join(shown))
    return f"{request.path}?{urlencode({'seen': seen})}"
