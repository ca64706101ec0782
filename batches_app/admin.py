from django.contrib import admin, messages
from django.db.models import QuerySet
from django.forms import ModelForm
from django.http import HttpRequest
from django.utils import timezone

from batches_app import lifecycle, routing
from batches_app.models import Batch, Checkpoint, Lane, ServedModel, Shard
from config.admin_base import ModelAdmin, ReadOnlyAdmin


@admin.register(ServedModel)
class ServedModelAdmin(ModelAdmin):
    list_display = ["name", "upstream_url", "max_concurrency", "is_enabled"]
    list_filter = ["is_enabled"]
    search_fields = ["name", "upstream_url"]
    readonly_fields = ["created_at"]

    def save_model(self, request: HttpRequest, obj: ServedModel, form: "ModelForm[ServedModel]", change: bool) -> None:
        super().save_model(request, obj, form, change)
        if not change or "max_concurrency" in form.changed_data:
            routing.cut_lanes(obj)


@admin.register(Batch)
class BatchAdmin(ReadOnlyAdmin):
    list_display = ["public_id", "account", "model_name", "status", "total", "completed", "failed", "created_at"]
    list_filter = ["status", "account"]
    list_select_related = ["account"]
    search_fields = ["public_id", "name", "input_file_id"]
    show_full_result_count = False
    actions = ["cancel"]

    @admin.action(description="Cancel the selected batches", permissions=["cancel"])
    def cancel(self, request: HttpRequest, batches: QuerySet[Batch]) -> None:
        for batch in batches:
            try:
                lifecycle.cancel(batch, now=timezone.now())
            except lifecycle.NotCancellable as error:
                self.message_user(request, f"{batch} is {error} already.", messages.WARNING)
            else:
                self.log_change(request, batch, "Cancelled.")

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("batches_app.change_batch")


@admin.register(Lane)
class LaneAdmin(ReadOnlyAdmin):
    list_display = ["model", "number", "permits", "in_flight", "limit", "owner", "lease_expires_at", "pause_reason"]
    list_filter = ["model"]
    list_select_related = ["model"]


@admin.register(Shard)
class ShardAdmin(ReadOnlyAdmin):
    list_display = ["batch", "first_line", "last_line", "state", "lane", "claims"]
    list_filter = ["state"]
    list_select_related = ["batch", "lane__model"]
    search_fields = ["batch__public_id"]
    show_full_result_count = False


@admin.register(Checkpoint)
class CheckpointAdmin(ReadOnlyAdmin):
    list_display = ["batch", "first_line", "last_line", "created_at"]
    list_select_related = ["batch"]
    search_fields = ["batch__public_id"]
    exclude = ["index"]
    show_full_result_count = False
