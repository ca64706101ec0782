"""Actions that are carried out only after a page that says what they do and asks why."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from django import forms
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.text import capfirst

from config.admin_base import DeskAdmin, Tool

SHOWN_ROWS = 20


@dataclass(frozen=True, slots=True)
class Confirmed:
    """`name` is that of the admin's method `do_NAME(request, rows, reason)`, and of the page's address."""

    name: str
    permission: str
    title: str
    button: str
    warning: str


class ReasonForm(forms.Form):
    reason = forms.CharField(
        label="Why",
        max_length=500,
        widget=forms.TextInput(attrs={"class": "vLargeTextField"}),
        help_text="Goes into the audit trail.",
    )


class ConfirmingAdmin(DeskAdmin):
    confirmed: Sequence[Confirmed] = ()

    def get_urls(self) -> list[URLPattern]:
        pages = [
            path(f"{action.name}/", self.admin_site.admin_view(self._page(action)), name=self._url_name(action))
            for action in self.confirmed
        ]
        return [*pages, *super().get_urls()]

    def ask(self, request: HttpRequest, name: str, rows: QuerySet[Any]) -> HttpResponse:
        """The page, for the rows that were ticked in the list."""
        return self._ask(request, self._action(name), rows, ReasonForm())

    def tool(self, request: HttpRequest, name: str, row: Any) -> list[Tool]:
        action = self._action(name)
        url = reverse(f"admin:{self._url_name(action)}")
        return [Tool(action.button, f"{url}?ids={row.pk}", "danger")] if _may(request, action) else []

    def _action(self, name: str) -> Confirmed:
        return next(action for action in self.confirmed if action.name == name)

    def _url_name(self, action: Confirmed) -> str:
        return f"{self.opts.app_label}_{self.opts.model_name}_{action.name}"

    def _page(self, action: Confirmed) -> Callable[[HttpRequest], HttpResponse]:
        def page(request: HttpRequest) -> HttpResponse:
            if not _may(request, action):
                raise PermissionDenied
            rows = self.get_queryset(request).filter(pk__in=_ids(request))
            form = ReasonForm(request.POST if request.method == "POST" else None)
            if request.method == "POST" and form.is_valid():
                getattr(self, f"do_{action.name}")(request, list(rows), form.cleaned_data["reason"].strip())
                return HttpResponseRedirect(self._back(rows))
            return self._ask(request, action, rows, form)

        return page

    def _ask(self, request: HttpRequest, action: Confirmed, rows: QuerySet[Any], form: forms.Form) -> HttpResponse:
        chosen = list(rows)
        context = {
            **self.admin_site.each_context(request),
            "title": action.title,
            "opts": self.opts,
            "action": action,
            "form": form,
            "rows": [f"{capfirst(str(self.opts.verbose_name))} {row}" for row in chosen[:SHOWN_ROWS]],
            "more": max(0, len(chosen) - SHOWN_ROWS),
            "ids": ",".join(str(row.pk) for row in chosen),
            "target": reverse(f"admin:{self._url_name(action)}"),
            "back": self._back(rows),
        }
        return TemplateResponse(request, "admin/confirm.html", context)

    def _back(self, rows: QuerySet[Any]) -> str:
        prefix, keys = (
            f"admin:{self.opts.app_label}_{self.opts.model_name}",
            list(rows.values_list("pk", flat=True)[:2]),
        )
        return reverse(f"{prefix}_change", args=keys) if len(keys) == 1 else reverse(f"{prefix}_changelist")


def _may(request: HttpRequest, action: Confirmed) -> bool:
    return request.user.has_perm(action.permission)


def _ids(request: HttpRequest) -> list[int]:
    text = (request.POST if request.method == "POST" else request.GET).get("ids", "")
    # 18 digits: a number that the database has no room for would be an error of ours.
    return [int(part) for part in text.split(",") if part.isascii() and part.isdigit() and len(part) <= 18]
