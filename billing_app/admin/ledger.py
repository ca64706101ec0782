"""Money as it was booked, to look at: nothing of it is added, changed or deleted here."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from billing_app import months, standing
from billing_app.amounts import exact_money, money
from billing_app.models import Account, Hold, LedgerEntry
from config.admin_base import AccountFilter, ReadOnlyAdmin, TextFilter
from config.admin_parts import NONE, badge, code, console_url, link, list_url, number

SHOWN_MONTHS = 13
Kind = LedgerEntry.Kind
TONES = {Kind.TOP_UP: "ok", Kind.ADJUSTMENT: "warning", Kind.HOLD_PLACED: "info", Kind.HOLD_RELEASED: "info"}


class MonthFilter(admin.SimpleListFilter):
    title = "month"
    parameter_name = "month"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Counted back, not looked up: which months a ledger has, only a look at all of it would tell."""
        found = [months.containing(timezone.now())]
        while len(found) < SHOWN_MONTHS:
            found.append(months.before(found[-1]))
        return [(month, month) for month in found]

    def queryset(self, request: HttpRequest, entries: QuerySet[Any]) -> QuerySet[Any]:
        return entries.filter(month=value) if (value := self.value()) else entries


class ModelFilter(TextFilter):
    title = "model"
    parameter_name = "model"
    column = "model_name"


@admin.register(LedgerEntry)
class LedgerEntryAdmin(ReadOnlyAdmin):
    change_list_template = "admin/billing_app/ledgerentry/change_list.html"
    empty_text = "Nothing was booked yet."
    list_display = ["created_at", "account_link", "kind_badge", "moved", "reserved", "tokens", "work"]
    list_filter = ["kind", AccountFilter, MonthFilter, ModelFilter]
    list_select_related = ["account"]
    search_fields = ["batch_id__exact"]
    search_help_text = "A whole batch id: batch_…"
    show_full_result_count = False
    fieldsets = [
        (None, {"fields": ["created_at", "month", "account_link", "kind", "exact_amount", "exact_held"]}),
        ("Why", {"fields": ["reason", "made_by", "key"]}),
        ("Usage", {"fields": ["batch", "api_key", "model_name", "price", "requests"]}),
        ("Tokens", {"fields": ["input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens"]}),
    ]

    @admin.display(description="account", ordering="account__name")
    def account_link(self, entry: LedgerEntry) -> SafeString:
        return link(reverse("admin:billing_app_account_change", args=[entry.account_id]), entry.account)

    @admin.display(description="kind", ordering="kind")
    def kind_badge(self, entry: LedgerEntry) -> SafeString:
        return badge(entry.get_kind_display().lower(), TONES.get(Kind(entry.kind), "neutral"))

    @admin.display(description="amount")
    def moved(self, entry: LedgerEntry) -> SafeString:
        return format_html('<span class="right">{}</span>', money(entry.amount, 6)) if entry.amount else _none()

    @admin.display(description="held")
    def reserved(self, entry: LedgerEntry) -> SafeString:
        return format_html('<span class="right">{}</span>', money(entry.held, 6)) if entry.held else _none()

    @admin.display(description="tokens")
    def tokens(self, entry: LedgerEntry) -> SafeString:
        if not entry.requests:
            return _none()
        used = (number(entry.input_tokens), number(entry.output_tokens))
        return format_html('<span class="right">{} in<br>{} out</span>', *used)

    @admin.display(description="model and batch", ordering="batch_id")
    def work(self, entry: LedgerEntry) -> SafeString:
        return format_html("<div>{}<br>{}</div>", entry.model_name, self.batch(entry)) if entry.batch_id else _none()

    @admin.display(description="batch")
    def batch(self, entry: LedgerEntry) -> SafeString:
        return code(entry.batch_id, console_url("batches", q=entry.batch_id)) if entry.batch_id else _none()

    @admin.display(description="amount")
    def exact_amount(self, entry: LedgerEntry) -> SafeString:
        return exact_money(entry.amount)

    @admin.display(description="held")
    def exact_held(self, entry: LedgerEntry) -> SafeString:
        return exact_money(entry.held)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        name = request.GET.get("account", "")
        account = Account.objects.select_related("balance").filter(name=name).first() if name else None
        found = {"account": account, "balance": standing.balance_of(account)} if account else {}
        return super().changelist_view(request, (extra_context or {}) | found)


class ReleasedFilter(admin.SimpleListFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("open", "Open"), ("released", "Released")]

    def queryset(self, request: HttpRequest, holds: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        return holds.filter(released_at__isnull=value == "open") if value in ("open", "released") else holds


@admin.register(Hold)
class HoldAdmin(ReadOnlyAdmin):
    empty_text = "No hold yet. A prepaid account's batch reserves its worst case while it runs."
    list_display = ["batch", "account_link", "state", "exact_placed", "exact_left", "created_at", "released_at"]
    list_display_links = None
    list_filter = [ReleasedFilter, AccountFilter]
    list_select_related = ["account"]
    search_fields = ["batch_id__exact"]
    search_help_text = "A whole batch id: batch_…"
    ordering = ["-pk"]
    fields = ["batch_id", "account", "exact_placed", "exact_left", "created_at", "released_at"]
    show_full_result_count = False

    @admin.display(description="batch")
    def batch(self, hold: Hold) -> SafeString:
        return code(hold.batch_id, list_url("billing_app_ledgerentry", q=hold.batch_id))

    @admin.display(description="account", ordering="account__name")
    def account_link(self, hold: Hold) -> SafeString:
        return link(reverse("admin:billing_app_account_change", args=[hold.account_id]), hold.account)

    @admin.display(description="state")
    def state(self, hold: Hold) -> SafeString:
        return badge("released") if hold.released_at else badge("open", "info")

    @admin.display(description="placed")
    def exact_placed(self, hold: Hold) -> SafeString:
        return format_html('<span class="right">{}</span>', money(hold.placed, 6))

    @admin.display(description="left")
    def exact_left(self, hold: Hold) -> SafeString:
        return format_html('<span class="right">{}</span>', money(hold.left, 6))


def _none() -> SafeString:
    return format_html('<span class="right quiet">{}</span>', NONE)
