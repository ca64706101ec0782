"""The audit log: who did what, when, from where, to what, from what to what, and why."""

import re
from collections.abc import Iterator
from datetime import tzinfo
from typing import Any, NamedTuple

from django.contrib.auth.models import AnonymousUser, User
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBase, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from billing_app.audit import record_export
from billing_app.console.trail_filters import ORDER, TrailFilters
from billing_app.models import AuditEntry
from config.console import csv, keyset
from config.console.access import page
from config.console.filtering import first_page, problems_of, without_blanks
from config.console.keyset import MOST_COUNTED

PERMISSION = "billing_app.view_auditentry"
SIZE, CHUNK = 50, 1000
NONE = "—"
# As audit.named writes them. What follows the number may be a tenant's text.
_TARGET = re.compile(r"(?P<kind>[A-Z][A-Za-z ]*) (?P<pk>[0-9]{1,18}): (?P<name>.*)", re.DOTALL)
_PUBLIC_ID = re.compile(r"[\w-]{1,64}", re.ASCII)


@page(PERMISSION)
def audit(request: HttpRequest) -> HttpResponse:
    filters = TrailFilters(request.GET)
    if any("" in request.GET.getlist(name) for name in filters.fields):
        return redirect(_address(without_blanks(request.GET, filters.fields)))
    if problems := problems_of(filters):
        return render(request, "console/audit.html", {"form": filters, "problems": problems}, status=400)
    found = keyset.page(filters.chosen(now=timezone.now()), ORDER, filters.place, SIZE)
    if filters.place.backwards and found.before is None and len(found.rows) < SIZE:
        return redirect(_address(first_page(request.GET)))  # a whole first page, not the part that is before a row
    context = {
        "form": filters,
        "chips": filters.chips(),
        "page": found,
        "rows": [Line(entry, url_of(entry.target, request.user), _changes(entry)) for entry in found.rows],
        "count": min(found.count, MOST_COUNTED),
        "has_more": found.count > MOST_COUNTED,
        "csv": first_page(request.GET).urlencode(),
    }
    return render(request, "console/audit.html", context)


def _address(params: QueryDict) -> str:
    query = params.urlencode()
    return reverse("console:audit") + (f"?{query}" if query else "")


class Line(NamedTuple):
    entry: AuditEntry
    url: str  # of the page of what it is about, where there is one for this viewer
    changes: list[tuple[str, str, str]]


def url_of(target: str, user: User | AnonymousUser) -> str:
    if not (found := _TARGET.fullmatch(target)):
        return ""
    kind, pk, name = found.groups()
    match kind:
        case "Batch" if user.has_perm("batches_app.view_batch") and _PUBLIC_ID.fullmatch(name):
            return reverse("console:batch", args=[name])
        case "Stored file" if user.has_perm("files_app.view_storedfile") and _PUBLIC_ID.fullmatch(name):
            return reverse("console:file", args=[name])
        case "Account" if user.has_perm("billing_app.view_account"):
            return reverse("console:account", args=[pk])
        case "Operation" if user.has_perm("batches_app.view_operation"):
            return reverse("console:operation", args=[pk])
        case "Served model" if user.has_perm("batches_app.view_servedmodel"):
            return f"{reverse('console:models')}#model-{pk}"
    return ""


def _changes(entry: AuditEntry) -> list[tuple[str, str, str]]:
    return [(name.replace("_", " "), _said(before), _said(after)) for name, (before, after) in entry.changes.items()]


def _said(value: object) -> str:
    match value:
        case None | "" | []:
            return NONE
        case bool():
            return _("yes") if value else _("no")
        case list():
            return ", ".join(map(str, value))
        case _:
            return str(value)


@page(PERMISSION)
def audit_csv(request: HttpRequest) -> HttpResponseBase:
    filters = TrailFilters(first_page(request.GET))
    if problems := problems_of(filters):
        return HttpResponse("\n".join(problems), status=400, content_type="text/plain; charset=utf-8")
    # Taken along: while the rows are written, the middleware that knows the viewer's zone is done.
    zone = timezone.get_current_timezone()
    record_export(request, "audit log")
    header = [f"when ({zone})", "who", "from where", "what", "on what", "account", "from → to", "why"]
    name = f"audit log {timezone.localtime():%Y-%m-%d %H%M}.csv"
    return csv.stream(name, header, _rows(filters.chosen(now=timezone.now()), zone))


def _rows(entries: QuerySet[AuditEntry], zone: tzinfo) -> Iterator[list[Any]]:
    for chunk in keyset.chunks(entries, ORDER, CHUNK):
        for entry in chunk:
            when = f"{entry.created_at.astimezone(zone):%Y-%m-%d %H:%M:%S}"
            changes = "; ".join(f"{name}: {before} → {after}" for name, before, after in _changes(entry))
            yield [when, entry.actor, entry.address, entry.action, entry.target, entry.account, changes, entry.reason]
