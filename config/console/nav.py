"""The console's pages, in the order of its menu, and what its templates know besides their own context."""

from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

THEME_COOKIE = "theme"
THEMES = ("auto", "light", "dark")


@dataclass(frozen=True, slots=True)
class Entry:
    label: Promise | str
    route: str  # in the namespace "console"; its pages begin with the same word
    permission: str
    icon: str


MENU = (
    Entry(_("Overview"), "overview", "batches_app.view_batch", "layout-dashboard"),
    Entry(_("Batches"), "batches", "batches_app.view_batch", "layers"),
    Entry(_("Operations"), "operations", "batches_app.view_operation", "list-checks"),
    Entry(_("Files"), "files", "files_app.view_storedfile", "file-text"),
    Entry(_("Accounts"), "accounts", "billing_app.view_account", "users"),
    Entry(_("Models"), "models", "batches_app.view_servedmodel", "cpu"),
    Entry(_("Usage and spend"), "usage", "billing_app.view_ledgerentry", "chart-column"),
    Entry(_("Workers and queues"), "workers", "batches_app.view_lane", "server"),
    Entry(_("Audit log"), "audit", "billing_app.view_auditentry", "scroll-text"),
)


def console(request: HttpRequest) -> dict[str, Any]:
    if not request.path_info.startswith("/console"):
        return {}
    theme = request.COOKIES.get(THEME_COOKIE)
    return {
        "menu": _menu(request),
        "theme": theme if theme in THEMES else "auto",
        "themes": THEMES,
        "languages": settings.LANGUAGES,
        "here": _here(request),
    }


def _here(request: HttpRequest) -> str:
    """The page's address; empty for the answer to a form, whose address may have no page."""
    view = request.resolver_match.func if request.resolver_match else None
    return request.get_full_path() if "GET" in getattr(view, "methods", ("GET",)) else ""


def _menu(request: HttpRequest) -> list[dict[str, Any]]:
    user = getattr(request, "user", None)
    if user is None or not user.is_staff:
        return []
    return [_item(entry, request) for entry in MENU if user.has_perm(entry.permission)]


def _item(entry: Entry, request: HttpRequest) -> dict[str, Any]:
    url = reverse(f"console:{entry.route}")
    here = request.path_info == url or (entry.route != "overview" and request.path_info.startswith(url))
    return {"label": entry.label, "icon": entry.icon, "url": url, "here": here}
