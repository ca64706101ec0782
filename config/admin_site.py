"""The admin as Batchdesk's: what is on its first page, and in which order."""

from decimal import Decimal
from typing import Any

from django.contrib import admin
from django.contrib.auth.views import redirect_to_login
from django.db import transaction
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone

from batches_app.models import Batch
from batches_app.states import TERMINAL
from billing_app import audit, standing
from billing_app.amounts import money
from billing_app.models import Account
from billing_app.pricing import add
from config.admin_parts import WARNING, console_url, list_url

GROUPS = {
    "Tenants": ["Account", "APIKey"],
    "Money": ["LedgerEntry", "Hold", "Price"],
    "Serving": ["ServedModel"],
    "People": ["User", "Group"],
}


class Site(admin.AdminSite):
    site_header = site_title = "Batchdesk"
    index_title = "Overview"
    empty_value_display = "—"

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[Any]:
        """By what an operator looks for, not by which app has the table."""
        apps = super().get_app_list(request, app_label)
        if app_label:
            return apps
        models = {model["object_name"]: model for app in apps for model in app["models"]}
        groups = [
            {"name": name, "app_label": name.lower(), "models": [models.pop(m) for m in members if m in models]}
            for name, members in GROUPS.items()
        ]
        others = {"name": "Other", "app_label": "other", "models": list(models.values())}
        return [group for group in [*groups, others] if group["models"]]

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        return super().index(request, (extra_context or {}) | {"tiles": _tiles(request)})

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        """One door for both, with one lockout."""
        return redirect_to_login(request.GET.get("next") or reverse("admin:index"))

    def password_change(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        if request.method != "POST":
            return super().password_change(request, extra_context)
        with transaction.atomic():
            answer = super().password_change(request, extra_context)
            if answer.status_code == 302:
                changes = {"password": (None, None)}
                audit.record(
                    **audit.by(request),
                    action="operator.password_changed",
                    target=request.user.get_username(),
                    changes=changes,
                )
        return answer


def _tiles(request: HttpRequest) -> list[dict[str, Any]]:
    may, now = request.user.has_perm, timezone.now()
    tiles = []
    if may("billing_app.view_ledgerentry"):
        spent, url = money(standing.spent_by_all(now)), list_url("billing_app_ledgerentry", kind__exact="usage")
        tiles.append({"label": "Spent this month", "value": spent, "note": "by all accounts", "url": url})
    if may("billing_app.view_hold"):
        held = list(standing.open_holds().values_list("left", flat=True))
        url = list_url("billing_app_hold", state="open")
        tiles.append({"label": "Open holds", "value": f"{len(held):,}", "note": _reserved(held), "url": url})
    if may("billing_app.view_account"):
        tiles.append(_near_quota())
    if may("batches_app.view_batch"):
        alive = Batch.objects.exclude(status__in=TERMINAL).count()
        url = console_url("batches", status="under_way")
        tiles.append({"label": "Batches under way", "value": f"{alive:,}", "note": "not ended yet", "url": url})
    return tiles


def _reserved(held: list[Decimal]) -> Any:
    return money(add(held)) if held else "nothing is reserved"


def _near_quota() -> dict[str, Any]:
    near = Account.objects.filter(standing.above(WARNING)).count()
    return {
        "label": f"Accounts at {WARNING} % or more",
        "value": f"{near:,}",
        "note": "of their files or bytes",
        "url": list_url("billing_app_account", used=WARNING),
        "tone": "warning" if near else "",
    }
