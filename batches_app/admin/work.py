from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.contrib import admin, messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from batches_app import lifecycle
from batches_app.models import Batch, Checkpoint, Shard
from batches_app.states import TERMINAL, Status
from billing_app import audit
from billing_app.amounts import exact_money
from billing_app.confirming import Confirmed, ConfirmingAdmin
from config.admin_base import AccountFilter, ReadOnlyAdmin, TextFilter, Tool
from config.admin_parts import NONE, badge, code, link, list_url, progress

TONES = {
    Status.VALIDATING: "info",
    Status.IN_PROGRESS: "info",
    Status.FINALIZING: "info",
    Status.COMPLETED: "ok",
    Status.FAILED: "danger",
    Status.EXPIRED: "warning",
    Status.CANCELLING: "warning",
    Status.CANCELLED: "neutral",
}
TIMES = (
    *("created_at", "in_progress_at", "cancelling_at", "finalizing_at"),
    *("completed_at", "failed_at", "expired_at", "cancelled_at", "expires_at"),
)
CANCEL = Confirmed(
    name="cancel",
    permission="batches_app.cancel_batch",
    title="Cancel batches",
    button="Cancel",
    warning="Nothing more is sent. What succeeded so far is delivered and billed. This cannot be undone.",
)


class AliveFilter(admin.SimpleListFilter):
    title = "under way"
    parameter_name = "alive"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "Under way"), ("no", "Ended")]

    def queryset(self, request: HttpRequest, batches: QuerySet[Any]) -> QuerySet[Any]:
        ended = {"status__in": sorted(TERMINAL)}
        return {"yes": batches.exclude(**ended), "no": batches.filter(**ended)}.get(self.value() or "", batches)


class StatusFilter(admin.SimpleListFilter):
    title = "status"
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(status, status.replace("_", " ")) for status in Status]

    def queryset(self, request: HttpRequest, batches: QuerySet[Any]) -> QuerySet[Any]:
        return batches.filter(status=value) if (value := self.value()) else batches


class ModelFilter(TextFilter):
    title = "model"
    parameter_name = "model"
    column = "model_name"


@admin.register(Batch)
class BatchAdmin(ConfirmingAdmin, ReadOnlyAdmin):
    confirmed = [CANCEL]
    empty_text = "No batch yet."
    list_display = ["batch", "account_link", "model_name", "state", "done", "span"]
    list_filter = [AliveFilter, StatusFilter, AccountFilter, ModelFilter]
    list_select_related = ["account"]
    search_fields = ["public_id", "name", "input_file_id"]
    show_full_result_count = False
    actions = ["cancel"]
    fieldsets = [
        (None, {"fields": ["public_id", "state", "account_link", "key", "name", "endpoint", "completion_window"]}),
        ("Files", {"fields": ["input_file", "output_file", "error_file"]}),
        ("Work", {"fields": ["done", "flagged", "tokens", "model_name", "price", "cost_so_far", "times"]}),
        ("Details", {"fields": ["metadata", "errors", "output_expires_after", "enqueued_tokens"]}),
    ]

    @admin.display(description="batch", ordering="public_id")
    def batch(self, batch: Batch) -> SafeString:
        return code(batch.public_id)

    @admin.display(description="account", ordering="account__name")
    def account_link(self, batch: Batch) -> SafeString:
        return link(reverse("admin:billing_app_account_change", args=[batch.account_id]), batch.account)

    @admin.display(description="API key")
    def key(self, batch: Batch) -> SafeString | str:
        if batch.api_key is None:
            return NONE
        return link(reverse("admin:billing_app_apikey_change", args=[batch.api_key_id]), batch.api_key)

    @admin.display(description="status", ordering="status")
    def state(self, batch: Batch) -> SafeString:
        return badge(batch.status.replace("_", " "), TONES[Status(batch.status)])

    @admin.display(description="requests done")
    def done(self, batch: Batch) -> SafeString | str:
        return progress(batch.completed, batch.failed, batch.total) if batch.total else NONE

    @admin.display(description="created, expires", ordering="created_at")
    def span(self, batch: Batch) -> SafeString:
        return format_html(
            '<div>{}<br><span class="quiet">{}</span></div>', _at(batch.created_at), _at(batch.expires_at)
        )

    @admin.display(description="tokens")
    def tokens(self, batch: Batch) -> str:
        used = batch.tokens
        return (
            f"{used.input:,} in, {used.cached:,} of them cached; "
            f"{used.output:,} out, {used.reasoning:,} of them reasoning"
        )

    @admin.display(description="times")
    def times(self, batch: Batch) -> SafeString:
        moments = ((name.removesuffix("_at").replace("_", " "), getattr(batch, name)) for name in TIMES)
        rows = ((name, _at(at)) for name, at in moments if at)
        lines = format_html_join("", '<li><span class="quiet">{}</span> {}</li>', rows)
        return format_html('<ul class="times">{}</ul>', lines)

    @admin.display(description="cost so far")
    def cost_so_far(self, batch: Batch) -> SafeString:
        return exact_money(batch.cost)

    @admin.display(description="input file")
    def input_file(self, batch: Batch) -> SafeString | str:
        return _file(batch.input_file_id)

    @admin.display(description="output file")
    def output_file(self, batch: Batch) -> SafeString | str:
        return _file(batch.output_file_id)

    @admin.display(description="error file")
    def error_file(self, batch: Batch) -> SafeString | str:
        return _file(batch.error_file_id)

    def tools(self, request: HttpRequest, batch: Batch) -> Sequence[Tool]:
        cancellable = batch.status in (Status.VALIDATING, Status.IN_PROGRESS)
        ledger = Tool("Ledger entries", list_url("billing_app_ledgerentry", q=batch.public_id))
        return [ledger, *(self.tool(request, "cancel", batch) if cancellable else [])]

    @admin.action(description="Cancel the selected batches", permissions=["cancel"])
    def cancel(self, request: HttpRequest, batches: QuerySet[Batch]) -> HttpResponse:
        return self.ask(request, "cancel", batches)

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(CANCEL.permission)

    def do_cancel(self, request: HttpRequest, batches: list[Batch], reason: str) -> None:
        for batch in batches:
            try:
                self._cancel(request, batch, reason)
            except lifecycle.NotCancellable as error:
                self.message_user(request, f"{batch} is {error} already.", messages.WARNING)

    @transaction.atomic
    def _cancel(self, request: HttpRequest, batch: Batch, reason: str) -> None:
        was = Batch.objects.select_for_update(of=("self",), no_key=True).get(pk=batch.pk).status
        lifecycle.cancel(batch, now=timezone.now())
        if was == batch.status:
            self.message_user(request, f"{batch} is {was} already.", messages.WARNING)
            return
        changes = {"status": (was, batch.status)}
        audit.record(
            **audit.by(request),
            action="batch.cancelled",
            target=batch,
            account=batch.account.name,
            changes=changes,
            reason=reason,
        )
        self.log_change(request, batch, "Cancelled.")
        self.message_user(request, f"{batch} is {batch.status}.")


@admin.register(Shard)
class ShardAdmin(ReadOnlyAdmin):
    empty_text = "No shard: batches under way have some."
    list_display = ["batch", "first_line", "last_line", "state", "lane", "claims"]
    list_filter = ["state"]
    list_select_related = ["batch", "lane__model"]
    search_fields = ["batch__public_id"]
    show_full_result_count = False


@admin.register(Checkpoint)
class CheckpointAdmin(ReadOnlyAdmin):
    empty_text = "No checkpoint: batches under way have some."
    list_display = ["batch", "first_line", "last_line", "created_at"]
    list_select_related = ["batch"]
    search_fields = ["batch__public_id"]
    exclude = ["index"]
    show_full_result_count = False


def _at(moment: datetime) -> str:
    return date_format(timezone.localtime(moment), "DATETIME_FORMAT")


def _file(public_id: str) -> SafeString | str:
    return code(public_id, list_url("files_app_storedfile", q=public_id)) if public_id else NONE
