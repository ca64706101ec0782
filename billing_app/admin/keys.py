import uuid
from datetime import datetime
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin
from django.db import transaction
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from billing_app import api_keys, months, spending
from billing_app.amounts import money
from billing_app.audited import KeptAdmin, WhyMixin
from billing_app.confirming import Confirmed, ConfirmingAdmin
from billing_app.models import APIKey
from config.admin_base import AccountFilter, Tool
from config.admin_parts import NONE, badge, link, list_url

TONES = {"active": "ok", "expired": "warning", "revoked": "danger"}
REVOKE = Confirmed(
    name="revoke",
    permission="billing_app.revoke_apikey",
    title="Revoke API keys",
    button="Revoke",
    warning="They are refused within seconds, for good. Batches that were created with them go on.",
)
# Of the session: which forms have issued a key, so that a page that is loaded again does not issue another.
ISSUED, REMEMBERED = "keys_issued", 20


class KeyForm(WhyMixin):
    # Made with the page; see ISSUED.
    once = forms.UUIDField(widget=forms.HiddenInput, required=False)

    class Meta:
        model = APIKey
        fields = ["account", "name", "expires_at", "monthly_limit"]
        labels = {"monthly_limit": "Monthly limit", "expires_at": "Expires"}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial.setdefault("once", uuid.uuid4())
        if "monthly_limit" in self.fields:
            self.fields["monthly_limit"].label = f"Monthly limit ({settings.CURRENCY})"

    def clean_expires_at(self) -> datetime | None:
        expires_at: datetime | None = self.cleaned_data["expires_at"]
        if expires_at and "expires_at" in self.changed_data and expires_at <= timezone.now():
            raise forms.ValidationError("That is in the past. To end a key now, revoke it.")
        return expires_at


class StateFilter(admin.SimpleListFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(state, state.capitalize()) for state in TONES]

    def queryset(self, request: HttpRequest, keys: QuerySet[Any]) -> QuerySet[Any]:
        expired = Q(revoked_at=None, expires_at__lte=timezone.now())
        states = {
            "active": keys.filter(revoked_at=None).exclude(expired),
            "expired": keys.filter(expired),
            "revoked": keys.exclude(revoked_at=None),
        }
        return states.get(self.value() or "", keys)


@admin.register(APIKey)
class APIKeyAdmin(ConfirmingAdmin, KeptAdmin):
    form = KeyForm
    audit_noun, audit_added = "key", "issued"
    confirmed = [REVOKE]
    empty_text = "No key yet. Each is shown once, when it is issued, and kept as a hash."
    list_display = ["hint", "name", "account_link", "state", "monthly", "last_used_at", "expires_at"]
    list_display_links = ["hint", "name"]
    list_filter = [StateFilter, AccountFilter]
    list_select_related = ["account"]
    search_fields = ["hint", "name"]
    autocomplete_fields = ["account"]
    actions = ["revoke"]

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:
            return [(None, {"fields": ["account", "name", "expires_at", "monthly_limit", "once"]})]
        facts = ["hint", "account_link", "state", "spent", "created_at", "last_used_at", "revoked_at"]
        editable = [("What may be changed", {"fields": ["name", "expires_at", "monthly_limit"]})]
        why = [(None, {"fields": ["why"], "classes": ["why"]})] if self.has_change_permission(request, obj) else []
        return [("Key", {"fields": facts}), *editable, *why]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return ["hint", "account_link", "state", "spent", "created_at", "last_used_at", "revoked_at"] if obj else []

    @admin.display(description="account", ordering="account__name")
    def account_link(self, key: APIKey) -> SafeString:
        return link(reverse("admin:billing_app_account_change", args=[key.account_id]), key.account)

    @admin.display(description="state")
    def state(self, key: APIKey) -> SafeString:
        expired = key.expires_at is not None and key.expires_at <= timezone.now()
        state = "revoked" if key.revoked_at else "expired" if expired else "active"
        return badge(state, TONES[state])

    @admin.display(description="monthly limit")
    def monthly(self, key: APIKey) -> SafeString:
        limit = NONE if key.monthly_limit is None else money(key.monthly_limit)
        return format_html('<span class="right">{}</span>', limit)

    @admin.display(description="spent this month")
    def spent(self, key: APIKey) -> SafeString:
        return money(spending.of_key(key, months.containing(timezone.now())))

    def tools(self, request: HttpRequest, key: APIKey) -> list[Tool]:
        batches = Tool("Ledger", list_url("billing_app_ledgerentry", account=key.account.name))
        return [batches] if key.revoked_at else [batches, *self.tool(request, "revoke", key)]

    # Issuing

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Any = None,
    ) -> HttpResponse:
        # What follows is the page with the key, whichever button it was.
        context |= {"show_save_and_add_another": False, "show_save_and_continue": not add}
        return super().render_change_form(request, context, add, change, form_url, obj)

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        issued = request.session.get(ISSUED, {}).get(request.POST.get("once"))
        if request.method == "POST" and issued:
            self.message_user(request, "This form has issued its key already; it cannot be shown again.")
            return HttpResponseRedirect(reverse("admin:billing_app_apikey_change", args=[issued]))
        return super().add_view(request, form_url, extra_context)

    def insert(self, key: APIKey, form: Any) -> dict[str, Any]:
        given = {name: form.cleaned_data[name] for name in ("name", "expires_at", "monthly_limit")}
        issued, form.instance.secret = api_keys.issue(key.account, **given)
        key.pk, key.hint, key.key_hash = issued.pk, issued.hint, issued.key_hash
        key._state.adding = False
        return {name: (None, value) for name, value in given.items() if value}

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: str | None = None) -> HttpResponse:
        """The one time that the key is shown: in the answer itself, so that it is kept nowhere."""
        done = {**request.session.get(ISSUED, {}), request.POST.get("once", ""): obj.pk}
        request.session[ISSUED] = dict(list(done.items())[-REMEMBERED:])
        context = {
            **self.admin_site.each_context(request),
            "title": "API key issued",
            "subtitle": obj.account.name,
            "opts": self.opts,
            "key": obj,
            "secret": obj.secret,
        }
        answer = TemplateResponse(request, "admin/billing_app/apikey/issued.html", context)
        answer["Cache-Control"] = "no-store"
        return answer

    # Revoking

    @admin.action(description="Revoke the selected keys", permissions=["revoke"])
    def revoke(self, request: HttpRequest, keys: QuerySet[APIKey]) -> HttpResponse:
        return self.ask(request, "revoke", keys)

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(REVOKE.permission)

    @transaction.atomic
    def do_revoke(self, request: HttpRequest, keys: list[APIKey], reason: str) -> None:
        now = timezone.now()
        revoked = [key for key in keys if api_keys.revoke(key, now=now)]
        for key in revoked:
            self.audit(request, key, "revoked", {"revoked_at": (None, now)}, reason)
            self.log_change(request, key, "Revoked.")
        self.message_user(request, f"{len(revoked)} {'key' if len(revoked) == 1 else 'keys'} revoked.")
