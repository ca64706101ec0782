from django.contrib import admin

from config.admin_base import ReadOnlyAdmin
from files_app.models import StoredFile


@admin.register(StoredFile)
class StoredFileAdmin(ReadOnlyAdmin):
    list_display = ["public_id", "account", "purpose", "filename", "bytes", "created_at", "expires_at", "deleted_at"]
    list_filter = ["purpose", "account"]
    list_select_related = ["account"]
    search_fields = ["public_id", "filename"]
    show_full_result_count = False
