"""Kinds of admin, and of filters, that all apps share."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.text import capfirst

if TYPE_CHECKING:  # only the stubs know these as generic
    ModelAdmin = admin.ModelAdmin[Any]
    TabularInline = admin.TabularInline[Any, Any]
else:
    ModelAdmin, TabularInline = admin.ModelAdmin, admin.TabularInline


@dataclass(frozen=True, slots=True)
class Tool:
    """A button at the top of a row's page."""

    label: str
    url: str
    tone: str = "plain"


class DeskAdmin(ModelAdmin):
    list_per_page = 50
    show_facets = admin.ShowFacets.NEVER  # each would count a whole table
    empty_text = "There is nothing here yet."

    def tools(self, request: HttpRequest, obj: Any) -> Sequence[Tool]:
        return []

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        title = {"title": capfirst(str(self.opts.verbose_name_plural))}
        return super().changelist_view(request, title | (extra_context or {}))

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
            kind, name = str(self.opts.verbose_name), str(obj)
            title = name if name.startswith(kind) else f"{capfirst(kind)} {name}"  # not "Batch batch_…"
            context |= {"tools": self.tools(request, obj), "title": title, "subtitle": None}
        return super().render_change_form(request, context, add, change, form_url, obj)


class AddOnlyAdmin(DeskAdmin):
    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class ReadOnlyAdmin(AddOnlyAdmin):
    def has_add_permission(self, request: HttpRequest) -> bool:
        return False


class TextFilter(admin.SimpleListFilter):
    """A value to type in: a list of all accounts, or of all models in a ledger, would be too long to choose from."""

    template = "admin/text_filter.html"
    column: str

    def value(self) -> str | None:
        """PostgreSQL has no NUL in its text: what has one is not there."""
        value = super().value()
        return value.replace("\0", "\ufffd") if value else value

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return []

    def has_output(self) -> bool:
        return True

    def choices(self, changelist: Any) -> Iterator[Any]:
        yield {
            "name": self.parameter_name,
            "value": self.value() or "",
            "others": [(name, value) for name, value in self._others(changelist)],
            "clear": changelist.get_query_string(remove=[str(self.parameter_name)]),
        }

    def _others(self, changelist: Any) -> Iterator[tuple[str, str]]:
        for name, values in changelist.filter_params.items():
            if name != self.parameter_name:
                yield from ((name, value) for value in values)
        if changelist.query:
            yield "q", changelist.query

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = (self.value() or "").strip()
        if not value:
            return queryset
        # Exactly this one, if there is one: "acme" is not also "acme-test".
        exact = queryset.filter(**{self.column: value})
        return exact if exact.exists() else queryset.filter(**{f"{self.column}__icontains": value})


class AccountFilter(TextFilter):
    title = "account"
    parameter_name = "account"
    column = "account__name"
