from datetime import datetime
from decimal import Decimal
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin
from django.contrib.admin.widgets import AdminSplitDateTime
from django.db.models import F, OuterRef, Q, QuerySet, Subquery
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString

from billing_app import prices
from billing_app.audited import AuditedAdmin, ModelForm
from billing_app.models import Price
from billing_app.pricing import plain
from config.admin_base import AddOnlyAdmin
from config.admin_parts import NONE, badge, link

RATES = ["input_price", "cached_input_price", "output_price"]
COPIED = ["model_name", *RATES, "batch_discount"]
TONES = {"in force": "ok", "future": "info", "past": "neutral"}


class PriceForm(ModelForm):
    effective_from = forms.SplitDateTimeField(
        widget=AdminSplitDateTime,
        required=False,
        label="In force from",
        help_text="Empty: from now on. Batches that are created from then on pay it; earlier ones keep theirs.",
    )
    why = forms.CharField(
        label="Why",
        required=False,
        max_length=500,
        widget=forms.TextInput(attrs={"class": "vLargeTextField"}),
        help_text="Goes into the audit trail.",
    )

    class Meta:
        model = Price
        fields = [*COPIED, "currency", "effective_from"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in self.fields.keys() & RATES:  # none of them where the price is only looked at
            self.fields[name].label = f"{self.fields[name].label} ({settings.CURRENCY} per million tokens)"

    def clean_currency(self) -> str:
        currency: str = self.cleaned_data["currency"]
        if currency != settings.CURRENCY:
            raise forms.ValidationError(f"All prices of this installation are in {settings.CURRENCY} (CURRENCY).")
        return currency

    def clean_effective_from(self) -> datetime:
        now, chosen = timezone.now(), self.cleaned_data["effective_from"]
        if chosen is None:
            return now
        if chosen < now and Price.objects.filter(model_name=self.cleaned_data.get("model_name")).exists():
            raise forms.ValidationError(
                "That is in the past, and the model has a price already: batches created since then were promised "
                "it, and one that is still being checked would be billed at another. Leave it empty for: from now on."
            )
        return chosen  # type: ignore[no-any-return]  # a datetime: the field's

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        for name in (*RATES, "batch_discount"):
            value, most = cleaned.get(name), 1 if name == "batch_discount" else prices.MOST
            if value is not None and (fault := prices.fault(value, most=most)):
                self.add_error(name, f"It {fault}.")
        return cleaned


class ForceFilter(admin.SimpleListFilter):
    title = "version"
    parameter_name = "version"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name.capitalize()) for name in TONES]

    def queryset(self, request: HttpRequest, versions: QuerySet[Any]) -> QuerySet[Any]:
        future = Q(effective_from__gt=timezone.now())
        return {
            "in force": versions.filter(pk=F("in_force")),
            "future": versions.filter(future),
            "past": versions.exclude(future).exclude(pk=F("in_force")),
        }.get(self.value() or "", versions)


@admin.register(Price)
class PriceAdmin(AddOnlyAdmin, AuditedAdmin):
    form = PriceForm
    audit_noun, audit_added = "price", "added"
    empty_text = "No price yet. A model can be enabled once it has one."
    list_display = ["model_name", "force", "input", "cached", "output", "discount", "currency", "effective_from"]
    list_filter = [ForceFilter]
    search_fields = ["model_name"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Price]:
        current = Price.objects.filter(
            model_name=OuterRef("model_name"), currency=settings.CURRENCY, effective_from__lte=timezone.now()
        )
        newest = current.order_by("-effective_from", "-id").values("pk")[:1]
        versions: QuerySet[Price] = super().get_queryset(request)
        return versions.annotate(in_force=Subquery(newest))

    def get_list_display(self, request: HttpRequest) -> Any:
        return [*self.list_display, "new_version"] if self.has_add_permission(request) else self.list_display

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        why = [] if obj else ["why"]
        return [(None, {"fields": [*COPIED, "currency", "effective_from", *why]})]

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        given = super().get_changeform_initial_data(request)
        return {"currency": settings.CURRENCY, "batch_discount": "0.5", "effective_from": None} | given

    @admin.display(description="version")
    def force(self, price: Any) -> SafeString:
        return badge(state := _state(price), TONES[state])

    @admin.display(description="input")
    def input(self, price: Price) -> SafeString:
        return _figure(_figures(price.input_price))

    @admin.display(description="cached input")
    def cached(self, price: Price) -> SafeString:
        return _figure(NONE if price.cached_input_price is None else _figures(price.cached_input_price))

    @admin.display(description="output")
    def output(self, price: Price) -> SafeString:
        return _figure(_figures(price.output_price))

    @admin.display(description="batch factor")
    def discount(self, price: Price) -> SafeString:
        return _figure(plain(price.batch_discount))

    @admin.display(description="")
    def new_version(self, price: Any) -> SafeString:
        if price.pk != price.in_force:
            return SafeString("&nbsp;")  # an empty one would be shown as a dash
        given = {name: getattr(price, name) for name in COPIED}
        query = urlencode({n: v if isinstance(v, str) else plain(v) for n, v in given.items() if v is not None})
        return link(f"{reverse('admin:billing_app_price_add')}?{query}", "New version")


def _state(price: Any) -> str:
    if price.pk == price.in_force:
        return "in force"
    return "future" if price.effective_from > timezone.now() else "past"


def _figures(amount: Decimal) -> str:
    """With two decimal places or more, so that a column of them lines up."""
    return f"{amount:.2f}" if amount == round(amount, 2) else plain(amount)


def _figure(text: str) -> SafeString:
    return format_html('<span class="right number">{}</span>', text)
