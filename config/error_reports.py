"""Django's report of an error, on the page that DEBUG shows and in mails: without what opens doors.

Django hides by name, and with DEBUG hardly anything. A key stands under any name: in a header, a variable of a frame,
a message. So names are heeded always, and the finished text is gone through once more.
"""

import re
from collections.abc import ItemsView
from typing import Any

from django.conf import settings
from django.http import HttpRequest, QueryDict
from django.utils.html import escape
from django.views.debug import ExceptionReporter, SafeExceptionReporterFilter

_SHAPES = (
    (re.compile(r"sk-[\w-]{8,}"), "sk-…"),
    (re.compile(r"(?i)(bearer|basic) [^\s&'\"<]+"), r"\1 …"),
    (re.compile(r"(://[^\s/:@]*):[^\s/@]+@"), r"\1:…@"),
)


def redacted(text: str) -> str:
    for secret in (settings.SECRET_KEY, escape(settings.SECRET_KEY)):
        text = text.replace(secret, "…")
    for shape, instead in _SHAPES:
        text = shape.sub(instead, text)
    return text


class Filter(SafeExceptionReporterFilter):
    def is_active(self, request: HttpRequest | None) -> bool:
        return True

    def get_post_parameters(self, request: HttpRequest | None) -> Any:
        given = super().get_post_parameters(request)
        return self._hidden(given) if isinstance(given, QueryDict) else given

    def cleanse_special_types(self, request: HttpRequest | None, value: Any) -> Any:
        known = super().cleanse_special_types(request, value)
        return self._hidden(known) if isinstance(known, QueryDict) else known

    def get_traceback_frame_variables(self, request: Any, tb_frame: Any) -> ItemsView[str, Any]:
        shown = super().get_traceback_frame_variables(request, tb_frame)
        return {name: self.cleanse_setting(name, value) for name, value in shown}.items()

    def _hidden(self, given: QueryDict) -> QueryDict:
        shown = given.copy()
        for name in given:
            if self.hidden_settings.search(name):
                shown[name] = self.cleansed_substitute
        return shown


class Reporter(ExceptionReporter):
    def get_traceback_html(self) -> str:  # type: ignore[override]  # it is sent as it is: nobody asks whether it is safe
        return redacted(super().get_traceback_html())

    def get_traceback_text(self) -> str:  # type: ignore[override]  # as above
        return redacted(super().get_traceback_text())
