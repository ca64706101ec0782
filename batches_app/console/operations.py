"""Operations: their list, a draft to be confirmed, what one does while it runs, and what came of it."""

from datetime import datetime
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from batches_app import consequences, operations, retrying
from batches_app.console import looks
from batches_app.console.batch_filters import InvalidFilters, filtered
from batches_app.models import Batch, Operation
from batches_app.results import ErrorCode
from billing_app import audit
from config.console.access import page

Kind, State = Operation.Kind, Operation.State
PERMISSIONS = {Kind.CANCEL: "batches_app.cancel_batch", Kind.RETRY: "batches_app.retry_batch"}
ROWS = 50
SHOWN = 20  # batches and accounts on a page about all of them
MOST_ID = 2**63 - 1


class ListForm(forms.Form):
    state = forms.ChoiceField(
        label=gettext_lazy("State"),
        required=False,
        choices=[("", gettext_lazy("All that were started")), *((s, looks.operation_label(s)) for s in State)],
    )
    kind = forms.ChoiceField(
        label=gettext_lazy("Kind"),
        required=False,
        choices=[("", gettext_lazy("All")), *((k, looks.kind_label(k)) for k in Kind)],
    )
    before = forms.IntegerField(label=gettext_lazy("Before"), required=False, min_value=1, max_value=MOST_ID)


class ReasonForm(forms.Form):
    reason = forms.CharField(label=gettext_lazy("Why"), max_length=500)


@page("batches_app.view_operation")
def listing(request: HttpRequest) -> HttpResponse:
    form = ListForm(request.GET)
    rows = list(_listed(form.cleaned_data)[: ROWS + 1]) if form.is_valid() else []
    shown = rows[:ROWS]
    context = {
        "form": form,
        "rows": shown,
        "next": shown[-1].pk if len(rows) > ROWS else None,
        "is_filtered": any(request.GET.get(name) for name in form.fields),
        "is_live": any(row.state == State.RUNNING for row in shown),
    }
    template = "console/_operations.html" if getattr(request, "htmx", False) else "console/operations.html"
    return render(request, template, context, status=400 if form.errors else 200)


def _listed(chosen: dict[str, Any]) -> QuerySet[Operation]:
    rows = Operation.objects.defer("targets", "problems").order_by("-pk")
    rows = rows.filter(state=chosen["state"]) if chosen["state"] else rows.exclude(state=State.DRAFT)
    if chosen["kind"]:
        rows = rows.filter(kind=chosen["kind"])
    return rows.filter(pk__lt=chosen["before"]) if chosen["before"] else rows


@page("batches_app.view_operation")
def operation(request: HttpRequest, pk: int) -> HttpResponse:
    found = _found(pk)
    if getattr(request, "htmx", False):
        return render(request, "console/_operation_state.html", _state(request, found))
    return _page(request, found, ReasonForm())


@page("batches_app.cancel_batch", methods=["POST"])
def draft_cancel(request: HttpRequest) -> HttpResponse:
    query = _query(request).urlencode()
    if not (request.POST.get("all") or request.POST.getlist("ids")):
        messages.error(request, _("Select at least one batch."))
        return redirect(_back(request))
    try:
        drafted = operations.draft_cancel(_chosen(request), by=audit.by(request), query=query, now=timezone.now())
    except (InvalidFilters, operations.TooMany, operations.NoTargets) as error:
        messages.error(request, str(error))
        return redirect(_back(request))
    return redirect("console:operation", drafted.pk)


def _chosen(request: HttpRequest) -> QuerySet[Batch]:
    if request.POST.get("all"):
        return filtered(_query(request))
    return _selected(request)


def _selected(request: HttpRequest) -> QuerySet[Batch]:
    return Batch.objects.filter(public_id__in=[_storable(public_id) for public_id in request.POST.getlist("ids")])


def _query(request: HttpRequest) -> QueryDict:
    return QueryDict(request.POST.get("query", ""))


def _back(request: HttpRequest) -> str:
    query = _query(request).urlencode()
    if not query and len(selected := _selected(request)[:2]) == 1:
        return reverse("console:batch", args=[selected[0].public_id])
    return reverse("console:batches") + (f"?{query}" if query else "")


@page("batches_app.retry_batch", methods=["POST"])
def draft_retry(request: HttpRequest) -> HttpResponse:
    batches = Batch.objects.select_related("account", "api_key")
    batch = get_object_or_404(batches, public_id=_storable(request.POST.get("batch", "")))
    try:
        code = _storable(request.POST.get("code", ""))
        drafted = operations.draft_retry(batch, code, by=audit.by(request), now=timezone.now())
    except retrying.CannotRetry as error:
        why = str(retrying.sentence(error.why))
        messages.error(request, _("The failed lines cannot be retried. %(why)s") % {"why": why})
        return redirect("console:batch", batch.public_id)
    return redirect("console:operation", drafted.pk)


def _storable(text: str) -> str:
    return text.replace("\0", "\ufffd")  # PostgreSQL would refuse it


@page("batches_app.view_operation", methods=["POST"])
def start(request: HttpRequest, pk: int) -> HttpResponse:
    found = _found(pk)
    _require(request, found)
    form = ReasonForm(request.POST)
    has_reason = form.is_valid()
    if found.state == State.DRAFT and not has_reason:
        return _page(request, found, form, status=400)
    by, now = audit.by(request), timezone.now()
    try:
        if not (has_reason and operations.start(found, form.cleaned_data["reason"], by=by, now=now)):
            messages.info(request, _("This operation was started before."))
    except operations.Overtaken:
        messages.error(request, _("Not started: since this was drafted, somebody else has run these lines again."))
    return redirect("console:operation", pk)


@page("batches_app.view_operation", methods=["POST"])
def abort(request: HttpRequest, pk: int) -> HttpResponse:
    found = _found(pk)
    _require(request, found)
    if not operations.abort(found, by=audit.by(request), now=timezone.now()):
        messages.info(request, _("This operation does not run: there is nothing to abort."))
    return redirect("console:operation", pk)


def _found(pk: int) -> Operation:
    return get_object_or_404(Operation.objects.defer("targets").select_related("result"), pk=pk)


def _may(request: HttpRequest, operation: Operation) -> bool:
    return request.user.has_perm(PERMISSIONS[Kind(operation.kind)])


def _require(request: HttpRequest, operation: Operation) -> None:
    if not _may(request, operation):
        raise PermissionDenied


def _page(request: HttpRequest, operation: Operation, form: forms.Form, status: int = 200) -> HttpResponse:
    context = _state(request, operation) | {"form": form}
    if operation.kind == Kind.CANCEL:
        context["targets"] = _first(operation)
    if operation.state == State.DRAFT:
        now = timezone.now()
        context |= _cancelling(operation, now) if operation.kind == Kind.CANCEL else _retrying(operation, now)
    return render(request, "console/operation.html", context, status=status)


def _state(request: HttpRequest, operation: Operation) -> dict[str, Any]:
    return {
        "operation": operation,
        "may": _may(request, operation),
        "parent": _parent(operation),
        "problems": [(batch_id, _why(operation, why)) for batch_id, why in operation.problems],
        "unchanged": operation.position - operation.changed,
        "untouched": operation.total - operation.position,
    }


def _parent(operation: Operation) -> Batch | None:
    if operation.kind != Kind.RETRY or operation.state == State.DRAFT:
        return None
    return Batch.objects.only("public_id").get(pk=operation.targets[0])


def _why(operation: Operation, why: str) -> str:
    if operation.kind == Kind.RETRY or why == retrying.Obstacle.UNFORESEEN:
        return str(retrying.sentence(why))
    return _("It was not cancelled, for its state was already: %(state)s.") % {"state": looks.label(why)}


def _first(operation: Operation) -> list[Batch]:
    shown = Batch.objects.select_related("account").filter(pk__in=operation.targets[:SHOWN])
    return list(shown.order_by("pk"))


def _cancelling(operation: Operation, now: datetime) -> dict[str, Any]:
    summary = consequences.of(operation.targets, now=now)
    accounts = list(summary.by_account.items())
    return {
        "summary": summary,
        "accounts": accounts[:SHOWN],
        "more_accounts": max(0, len(accounts) - SHOWN),
        "most_counted": operations.MOST_COUNTED,
    }


def _retrying(operation: Operation, now: datetime) -> dict[str, Any]:
    batch = Batch.objects.select_related("account", "api_key").get(pk=operation.targets[0])
    codes = batch.error_groups.filter(code=operation.error_code) if operation.error_code else batch.error_groups.all()
    return {
        "batch": batch,
        "codes": codes,
        "unrun": (ErrorCode.BATCH_CANCELLED, ErrorCode.BATCH_EXPIRED),
        "key": retrying.key_for(batch, now=now),
        "forecast": retrying.forecast(batch, operation.total, now=now),
        "earlier": batch.retries.order_by("-pk")[:5],
        "under_way": operations.others_under_way(operation)[:5],
    }
