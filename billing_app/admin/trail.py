from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from billing_app.models import AuditEntry
from config.admin_base import ReadOnlyAdmin, TextFilter
from config.admin_parts import NONE, badge

NOUNS = ("account", "key", "credit", "adjustment", "price", "model", "batch", "operator", "group")
SHOWN = 60  # characters of a value in the list


class NounFilter(admin.SimpleListFilter):
    title = "what"
    parameter_name = "what"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(noun, noun.capitalize()) for noun in NOUNS]

    def queryset(self, request: HttpRequest, entries: QuerySet[Any]) -> QuerySet[Any]:
        return entries.filter(action__startswith=f"{value}.") if (value := self.value()) else entries


class ActorFilter(TextFilter):
    title = "who"
    parameter_name = "who"
    column = "actor"


class NameFilter(TextFilter):
    title = "account"
    parameter_name = "account"
    column = "account"


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin):
    empty_text = "Nothing was changed yet."
    list_display = ["created_at", "actor", "action_badge", "target", "what_changed", "reason", "address"]
    list_filter = [NounFilter, ActorFilter, NameFilter]
    search_fields = ["target", "reason"]
    show_full_result_count = False
    fields = ["created_at", "actor", "address", "action", "target", "account", "what_changed_in_full", "reason"]

    @admin.display(description="what", ordering="action")
    def action_badge(self, entry: AuditEntry) -> SafeString:
        return badge(entry.action)

    @admin.display(description="from → to")
    def what_changed(self, entry: AuditEntry) -> SafeString:
        return _lines(entry, SHOWN)

    @admin.display(description="from → to")
    def what_changed_in_full(self, entry: AuditEntry) -> SafeString:
        return _lines(entry, None)


def _lines(entry: AuditEntry, most: int | None) -> SafeString:
    rows = (
        (name.replace("_", " "), _shown(before, most), _shown(after, most))
        for name, (before, after) in entry.changes.items()
    )
    lines = format_html_join("", "<div><b>{}</b> {} → {}</div>", rows)
    return format_html('<div class="change">{}</div>', lines) if lines else format_html("{}", NONE)


def _shown(value: object, most: int | None) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else {True: "yes", False: "no"}.get(value, value)  # type: ignore[call-overload]  # any key
    text = NONE if text in (None, "") else str(text)
    return text if most is None or len(text) <= most else f"{text[: most - 1]}…"
