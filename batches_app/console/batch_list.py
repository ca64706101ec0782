"""The list of batches: filtered, sorted and paged by its address alone."""

from datetime import datetime
from typing import Any

from django.db.models import F, Value
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from batches_app.console.batch_filters import VIEWING, BatchFilters, chips, segments
from batches_app.console.batch_rows import columns, told_live
from batches_app.console.batch_view import ViewForm, headings
from batches_app.console.custom_id_search import searched
from batches_app.console.saved_views import Choice
from batches_app.models import SavedView, ServedModel
from batches_app.operations import CANCELLABLE
from billing_app.models import Account
from config.console import keyset
from config.console.access import page
from config.console.filtering import first_page, problems_of, without_blanks
from config.console.keyset import MOST_COUNTED

KNOWN = (*BatchFilters.base_filters, *VIEWING)
MOST_OFFERED = 300
OFFER = ("kind", "key", "name", "query")


@page("batches_app.view_batch")
def batches(request: HttpRequest) -> HttpResponse:
    if any("" in request.GET.getlist(name) for name in KNOWN):
        return redirect(_address(without_blanks(request.GET, KNOWN)))
    now = timezone.now()
    filters, view = BatchFilters(request.GET, now=now), ViewForm(request.GET)
    if problems := _problems(filters, view):
        context = _around(request, filters, view) | {"problems": problems}
        return render(request, "console/batches.html", context, status=400)
    found = _found(request, filters, view, now)
    if view.place.backwards and found["page"].before is None and len(found["rows"]) < view.size_chosen:
        return redirect(_address(first_page(request.GET)))  # a whole first page, not the part that is before a row
    context = found | _about(request, filters, view, found)
    if request.htmx:  # type: ignore[attr-defined]  # django_htmx's middleware
        return render(request, "console/_batches.html", context)
    return render(request, "console/batches.html", _around(request, filters, view) | context)


def _address(params: QueryDict) -> str:
    query = params.urlencode()
    return reverse("console:batches") + (f"?{query}" if query else "")


def _problems(filters: BatchFilters, view: ViewForm) -> list[str]:
    problems = [*problems_of(filters.form), *problems_of(view)]
    if not problems and filters.custom_id_sought and view.place.backwards:
        return [_("A search by custom_id goes forward only.")]
    return problems


def _found(request: HttpRequest, filters: BatchFilters, view: ViewForm, now: datetime) -> dict[str, Any]:
    if filters.custom_id_sought:
        return searched(request, filters, view, now)
    page = keyset.page(filters.qs, view.order, view.place, view.size_chosen, columns=columns())
    rows = told_live(page.rows, now=now)
    return {"page": page, "rows": rows, "is_live": not all(row.is_final for row in rows)}


def _about(request: HttpRequest, filters: BatchFilters, view: ViewForm, found: dict[str, Any]) -> dict[str, Any]:
    """The table: what stands above it, and what may be done with it."""
    count = found["page"].count
    return {
        "count": min(count, MOST_COUNTED),
        "has_more": count > MOST_COUNTED,
        "headings": headings(view, request.GET),
        "chips": chips(filters),
        "any_cancellable": any(row.is_cancellable for row in found["rows"]),
        "may_cancel_all": _may_cancel_all(filters),
    }


def _may_cancel_all(filters: BatchFilters) -> bool:
    """Not of what a search has found, for those are not all that match; nor where nothing can be cancelled."""
    statuses = filters.form.cleaned_data["status"]
    return not filters.custom_id_sought and (not statuses or bool({*statuses} & {*CANCELLABLE}))


def _around(request: HttpRequest, filters: BatchFilters, view: ViewForm) -> dict[str, Any]:
    """What is on the page, and is not asked for again while it is live."""
    params = request.GET
    return {
        "form": filters.form,
        "view": view,
        "segments": segments(params),
        "folded": sum(bool(params.get(name)) for name in BatchFilters.base_filters if name != "q"),
        "query": first_page(params).urlencode(),
        **_offers(request),
        "base_url": request.build_absolute_uri("/v1"),
    }


def _offers(request: HttpRequest) -> dict[str, Any]:
    """Names to choose from and the operator's own views, in one query."""
    names = {"query": Value(""), "key": Value(0)}
    models = ServedModel.objects.annotate(kind=Value("models"), **names).values_list(*OFFER)
    accounts = Account.objects.annotate(kind=Value("accounts"), **names).values_list(*OFFER)
    views = SavedView.objects.filter(user=request.user.pk).annotate(kind=Value("views"), key=F("pk"))
    union = views.values_list(*OFFER).order_by().union(models.order_by(), accounts.order_by(), all=True)
    found: dict[str, list[Choice]] = {"views": [], "models": [], "accounts": []}
    for kind, *offer in union.order_by("-kind", "name")[:MOST_OFFERED]:
        found[kind].append(Choice(*offer))
    return found | {"current": [view.pk for view in found["views"] if view.is_of(request.GET)]}
