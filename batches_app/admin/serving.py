from typing import Any

from django.contrib import admin, messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from batches_app import routing
from batches_app.admin.model_form import ServedModelForm, no_price
from batches_app.models import ServedModel
from billing_app import prices
from billing_app.audited import KeptAdmin
from billing_app.pricing import plain
from config.admin_base import Tool
from config.admin_parts import badge, console_url, link, list_url


class StateFilter(admin.SimpleListFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("enabled", "Enabled"), ("disabled", "Disabled"), ("paused", "Paused")]

    def queryset(self, request: HttpRequest, models: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        if value == "paused":
            return models.exclude(paused_at=None)
        return models.filter(is_enabled=value == "enabled") if value in ("enabled", "disabled") else models


@admin.register(ServedModel)
class ServedModelAdmin(KeptAdmin):
    form = ServedModelForm
    audit_noun = "model"
    empty_text = "No model yet."
    list_display = ["name", "state", "price", "served", "upstream", "max_concurrency"]
    list_filter = [StateFilter]
    search_fields = ["name", "upstream_url"]
    actions = ["enable", "disable"]

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        return [
            (None, {"fields": ["name", "is_enabled", *(["paused_at"] if obj else []), "endpoints"]}),
            ("Upstream", {"fields": ["upstream_url", "upstream_model", "upstream_key_env", "max_concurrency"]}),
            ("Tokens", {"fields": ["context_tokens", "max_output_tokens"]}),
        ]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        if obj is None:
            return []
        upstream = ["endpoints", "upstream_url", "upstream_model", "upstream_key_env"]
        is_fixed = obj.is_builtin or not request.user.has_perm("batches_app.set_upstream")
        # Its prices and batches know it by name; it is paused in the console, which asks why.
        return ["name", "paused_at", *(upstream if is_fixed else [])]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return super().has_add_permission(request) and request.user.has_perm("batches_app.set_upstream")

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """The prices of the page's models with one query, not one each."""
        changes = super().get_changelist_instance(request)
        models = list(changes.result_list)
        current = prices.in_force([model.name for model in models], timezone.now())
        for model in models:
            model.price_in_force = current.get(model.name)
        changes.result_list = models
        return changes

    @admin.display(description="state", ordering="is_enabled")
    def state(self, model: ServedModel) -> SafeString:
        found = badge("enabled", "ok") if model.is_enabled else badge("disabled")
        return found if model.paused_at is None else format_html("{} {}", found, badge("paused", "warning"))

    @admin.display(description="price (input / output)")
    def price(self, model: Any) -> SafeString:
        price = model.price_in_force
        url = list_url("billing_app_price", q=model.name)
        if price is None:
            return link(url, badge("no price", "danger"))
        return link(url, f"{plain(price.input_price)} / {plain(price.output_price)} {price.currency}")

    @admin.display(description="endpoints")
    def served(self, model: ServedModel) -> SafeString:
        return format_html("<div>{}</div>", format_html_join("", "{}<br>", ((one,) for one in model.endpoints)))

    @admin.display(description="upstream", ordering="upstream_url")
    def upstream(self, model: ServedModel) -> SafeString:
        if model.is_builtin:
            return badge("built in")
        return format_html('<span class="break">{}</span>', model.upstream_url)

    def tools(self, request: HttpRequest, model: ServedModel) -> list[Tool]:
        return [
            Tool("Prices", list_url("billing_app_price", q=model.name)),
            Tool("Health, pause, probe", f"{reverse('console:models')}#model-{model.pk}"),
            Tool("Batches", console_url("batches", model=model.name)),
        ]

    def insert(self, model: ServedModel, form: Any) -> dict[str, Any]:
        changes = super().insert(model, form)
        routing.cut_lanes(model)
        return changes

    def update(self, model: ServedModel, form: Any) -> dict[str, Any]:
        changes = super().update(model, form)
        if "max_concurrency" in changes:
            routing.cut_lanes(model)
        return changes

    @admin.action(description="Enable the selected models", permissions=["change"])
    def enable(self, request: HttpRequest, models: QuerySet[ServedModel]) -> None:
        self._switch(request, models, True)

    @admin.action(description="Disable the selected models: no new batches, running ones go on", permissions=["change"])
    def disable(self, request: HttpRequest, models: QuerySet[ServedModel]) -> None:
        self._switch(request, models, False)

    @transaction.atomic
    def _switch(self, request: HttpRequest, models: QuerySet[ServedModel], enabled: bool) -> None:
        for model in models:
            if enabled and prices.current(model.name, timezone.now()) is None:
                self.message_user(request, no_price(model.name), messages.ERROR)
            elif ServedModel.objects.filter(pk=model.pk, is_enabled=not enabled).update(is_enabled=enabled):
                self.audit(request, model, "changed", {"is_enabled": (not enabled, enabled)})
                self.message_user(request, f"{model} is {'enabled' if enabled else 'disabled'}.")
