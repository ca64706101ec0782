from typing import Any

from django.contrib import admin, messages
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.defaultfilters import filesizeformat
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from billing_app import ledger, standing
from billing_app.admin import panels
from billing_app.admin.account_form import AccountForm
from billing_app.admin.credit import ADJUST, CREDIT, CreditPage
from billing_app.amounts import money, rounded
from billing_app.audited import KeptAdmin
from billing_app.models import Account, EnqueuedTokenLimit, RateLimit
from config.admin_base import TabularInline, Tool
from config.admin_parts import badge, meter, number, percent


class EnqueuedTokenLimitInline(TabularInline):
    model = EnqueuedTokenLimit
    extra = 0


class RateLimitInline(TabularInline):
    model = RateLimit
    extra = 0


class PrepaidFilter(admin.SimpleListFilter):
    title = "payment"
    parameter_name = "payment"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("prepaid", "Prepaid"), ("postpaid", "Postpaid")]

    def queryset(self, request: HttpRequest, accounts: QuerySet[Any]) -> QuerySet[Any]:
        prepaid = Q(balance__is_prepaid=True)  # one without a balance yet is postpaid
        return {"prepaid": accounts.filter(prepaid), "postpaid": accounts.exclude(prepaid)}.get(
            self.value() or "", accounts
        )


class QuotaFilter(admin.SimpleListFilter):
    title = "files or bytes used"
    parameter_name = "used"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("80", "80 % or more"), ("100", "100 %")]

    def queryset(self, request: HttpRequest, accounts: QuerySet[Any]) -> QuerySet[Any]:
        return accounts.filter(standing.above(int(value))) if (value := self.value()) in ("80", "100") else accounts


class BudgetFilter(admin.SimpleListFilter):
    title = "budget"
    parameter_name = "budget"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "Has one"), ("no", "Has none")]

    def queryset(self, request: HttpRequest, accounts: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        return accounts.filter(monthly_budget__isnull=value == "no") if value in ("yes", "no") else accounts


@admin.register(Account)
class AccountAdmin(KeptAdmin):
    form = AccountForm
    audit_noun = "account"
    change_form_template = "admin/billing_app/account/change_form.html"
    empty_text = "No account yet. The first one is a tenant's name; give it a key, and it can send batches."
    # None may have the name of a relation: Django would show that instead.
    list_display = ["name", "state", "money_left", "spent", "files_used", "bytes_used", "keys_active", "created"]
    list_filter = [("is_enabled", admin.BooleanFieldListFilter), PrepaidFilter, QuotaFilter, BudgetFilter]
    search_fields = ["name"]
    readonly_fields = ["created_at"]
    inlines = [RateLimitInline, EnqueuedTokenLimitInline]
    fieldsets = [
        ("Identity", {"fields": ["name", "is_enabled", "weight", "created_at"]}),
        ("Billing", {"fields": ["is_prepaid", "monthly_budget", "budget_is_hard", "alert_email"]}),
        ("Quotas", {"fields": ["max_files", "max_bytes", "max_active_batches"]}),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Account]:
        return standing.with_standing(super().get_queryset(request), timezone.now())

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        (title, identity), *others = super().get_fieldsets(request, obj)
        return [(title, identity if obj else {"fields": identity["fields"][:-1]}), *others]  # not yet created

    @admin.display(description="prepaid", boolean=True)
    def is_prepaid(self, account: Account) -> bool:
        return standing.balance_of(account).is_prepaid

    @admin.display(description="state", ordering="is_enabled")
    def state(self, account: Account) -> SafeString:
        enabled = badge("enabled", "ok") if account.is_enabled else badge("disabled", "danger")
        paying = "prepaid" if self.is_prepaid(account) else "postpaid"
        return format_html('<span class="badges">{} {}</span>', enabled, badge(paying))

    @admin.display(description="balance")
    def money_left(self, account: Account) -> SafeString:
        balance = standing.balance_of(account)
        held = format_html('<br><span class="quiet">{} held</span>', money(balance.held)) if balance.held else ""
        return format_html('<span class="right">{}{}</span>', money(balance.available), held)

    @admin.display(description="spent this month")
    def spent(self, account: Account) -> SafeString:
        spent, budget = standing.spent(account), account.monthly_budget
        if budget is None:
            return format_html('<span class="right">{}</span>', money(spent))
        text = format_html("{} of {}", rounded(spent), money(budget))
        return meter(percent(spent, budget), text, "Budget")

    @admin.display(description="files", ordering="storage_use__files")
    def files_used(self, account: Account) -> SafeString:
        used, limit = standing.storage_of(account).files, account.max_files
        return meter(percent(used, limit), f"{used:,} of {limit:,}", "Files")

    @admin.display(description="bytes", ordering="storage_use__bytes")
    def bytes_used(self, account: Account) -> SafeString:
        used, limit = standing.storage_of(account).bytes, account.max_bytes
        return meter(percent(used, limit), f"{filesizeformat(used)} of {filesizeformat(limit)}", "Bytes")

    @admin.display(description="keys", ordering="active_keys")
    def keys_active(self, account: Account) -> SafeString:
        return number(account.active_keys)  # type: ignore[attr-defined]  # the annotation

    @admin.display(description="created", ordering="created_at")
    def created(self, account: Account) -> str:
        return f"{timezone.localtime(account.created_at):%Y-%m-%d}"

    def tools(self, request: HttpRequest, account: Account) -> list[Tool]:
        user, key = request.user, account.pk
        found = []
        if user.has_perm(CREDIT.permission):
            found.append(Tool("Add credit", reverse("admin:billing_app_account_credit", args=[key]), "primary"))
        if user.has_perm(ADJUST.permission):
            found.append(Tool("Adjust", reverse("admin:billing_app_account_adjust", args=[key])))
        if user.has_perm("billing_app.add_apikey"):
            found.append(Tool("Issue a key", f"{reverse('admin:billing_app_apikey_add')}?account={key}"))
        return found

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        return [
            path("<int:pk>/credit/", wrap(CreditPage(self, CREDIT)), name="billing_app_account_credit"),
            path("<int:pk>/adjust/", wrap(CreditPage(self, ADJUST)), name="billing_app_account_adjust"),
            *super().get_urls(),
        ]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        try:
            return super().change_view(request, object_id, form_url, extra_context)
        except ledger.NotCovered:  # something was booked since the form was checked
            self.message_user(request, "The account owes: top it up first. Nothing was saved.", messages.ERROR)
            return HttpResponseRedirect(request.path)

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Any = None,
    ) -> HttpResponse:
        if obj:
            context |= panels.of(request.user, obj, timezone.now())
        return super().render_change_form(request, context, add, change, form_url, obj)

    def insert(self, account: Account, form: Any) -> dict[str, Any]:
        return super().insert(account, form) | self._set_prepaid(account, form)

    def update(self, account: Account, form: Any) -> dict[str, Any]:
        if "is_prepaid" in form.changed_data:
            ledger.lock(account.pk)  # before the account's row: whoever holds it may come to need that
        return super().update(account, form) | self._set_prepaid(account, form)

    def _set_prepaid(self, account: Account, form: Any) -> dict[str, Any]:
        wanted = form.cleaned_data.get("is_prepaid", False)
        if "is_prepaid" not in form.changed_data:
            return {}
        was = ledger.lock(account.pk).is_prepaid
        ledger.set_prepaid(account.pk, wanted)
        return {"is_prepaid": (was, wanted)} if was != wanted else {}
