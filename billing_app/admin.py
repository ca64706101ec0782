from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from billing_app import api_keys
from billing_app.models import Account, APIKey, EnqueuedTokenLimit, LedgerEntry, Price
from billing_app.models.fields import ExactDecimalField
from config.admin_base import AddOnlyAdmin, ModelAdmin, ReadOnlyAdmin, TabularInline


class EnqueuedTokenLimitInline(TabularInline):
    model = EnqueuedTokenLimit
    extra = 0


@admin.register(Account)
class AccountAdmin(ModelAdmin):
    list_display = ["name", "is_enabled", "weight", "created_at"]
    list_filter = ["is_enabled"]
    search_fields = ["name"]
    readonly_fields = ["created_at"]
    inlines = [EnqueuedTokenLimitInline]


@admin.register(APIKey)
class APIKeyAdmin(ReadOnlyAdmin):
    list_display = ["hint", "name", "account", "created_at", "expires_at", "revoked_at", "last_used_at"]
    list_filter = ["account"]
    list_select_related = ["account"]
    search_fields = ["hint", "name"]
    exclude = ["key_hash"]
    actions = ["revoke"]

    @admin.action(description="Revoke the selected keys", permissions=["revoke"])
    def revoke(self, request: HttpRequest, keys: QuerySet[APIKey]) -> None:
        now = timezone.now()
        revoked = [key for key in keys if api_keys.revoke(key, now=now)]
        for key in revoked:
            self.log_change(request, key, "Revoked.")
        self.message_user(request, f"{len(revoked)} keys revoked.")

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("billing_app.change_apikey")


@admin.register(Price)
class PriceAdmin(AddOnlyAdmin):
    list_display = ["model_name", "input_price", "output_price", "batch_discount", "currency", "effective_from"]
    search_fields = ["model_name"]
    formfield_overrides = {ExactDecimalField: {"form_class": forms.DecimalField, "min_value": 0}}


@admin.register(LedgerEntry)
class LedgerEntryAdmin(ReadOnlyAdmin):
    list_display = ["created_at", "account", "batch_id", "model_name", "requests", "amount"]
    list_filter = ["account", "model_name"]
    list_select_related = ["account"]
    search_fields = ["batch_id"]
    show_full_result_count = False
