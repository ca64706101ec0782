from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from config.admin_base import AccountFilter, ReadOnlyAdmin, Tool
from config.admin_parts import badge, code, link, list_url
from files_app.models import StoredFile


class DeletedFilter(admin.SimpleListFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("kept", "Kept"), ("deleted", "Deleted")]

    def queryset(self, request: HttpRequest, files: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        return files.filter(deleted_at__isnull=value == "kept") if value in ("kept", "deleted") else files


@admin.register(StoredFile)
class StoredFileAdmin(ReadOnlyAdmin):
    empty_text = "No file yet."
    list_display = ["file", "account_link", "purpose", "state", "filename", "size", "created_at", "expires_at"]
    list_filter = ["purpose", DeletedFilter, AccountFilter]
    list_select_related = ["account"]
    search_fields = ["public_id", "filename"]
    show_full_result_count = False
    exclude = ["account", "bytes"]
    readonly_fields = ["account_link", "size"]

    @admin.display(description="file", ordering="public_id")
    def file(self, file: StoredFile) -> SafeString:
        return code(file.public_id)

    @admin.display(description="account", ordering="account__name")
    def account_link(self, file: StoredFile) -> SafeString:
        return link(reverse("admin:billing_app_account_change", args=[file.account_id]), file.account)

    @admin.display(description="state", ordering="deleted_at")
    def state(self, file: StoredFile) -> SafeString:
        return badge("deleted") if file.deleted_at else badge("kept", "ok")

    @admin.display(description="bytes", ordering="bytes")
    def size(self, file: StoredFile) -> SafeString:
        title = f"{file.bytes:,} bytes"
        return format_html('<span class="right" title="{}">{}</span>', title, filesizeformat(file.bytes))

    def tools(self, request: HttpRequest, file: StoredFile) -> list[Tool]:
        return [Tool("Batches", list_url("batches_app_batch", q=file.public_id))]
