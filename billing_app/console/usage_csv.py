"""Usage as CSV: a table of the page with all its rows, or each day, account and model by itself. Amounts are exact."""

from collections.abc import Iterator

from django import forms
from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils import timezone

from billing_app import audit, daily, totals
from billing_app.console.usage_filters import PERMISSION, UsageFilters
from billing_app.pricing import Bill, plain
from config.console import csv
from config.console.access import page
from config.console.filtering import problems_of

# What the rows are told apart by; the last: by day as well.
BY = {"account": ("account",), "model": ("model",), "day": (), "": ("account", "model")}
COLUMNS = {"account": "account__name", "model": "model_name"}


class Filters(UsageFilters):
    by = forms.ChoiceField(required=False, choices=[(by, by) for by in BY])


@page(PERMISSION)
def usage_csv(request: HttpRequest) -> HttpResponseBase:
    filters = Filters(request.GET, today=daily.day_of(timezone.now()))
    if problems := problems_of(filters):
        return HttpResponse("\n".join(problems), status=400, content_type="text/plain; charset=utf-8")
    audit.record_export(request, "usage")
    by, period = filters.cleaned_data["by"], filters.period
    words = ("usage", *(["by", by] if by else []), str(period.first), "to", str(period.last))
    return csv.stream(f"{' '.join(words)}.csv", _header(by), _rows(filters))


def _header(by: str) -> list[str]:
    zone, currency = timezone.get_default_timezone_name(), settings.CURRENCY
    days = [f"day ({zone})"] if _is_daily(by) else [f"from ({zone})", f"to ({zone})"]
    return [*days, *BY[by], *totals.COUNTS, f"list price ({currency})", f"charged ({currency})"]


def _is_daily(by: str) -> bool:
    return by in ("day", "")


def _rows(filters: UsageFilters) -> Iterator[list[object]]:
    """A day is read and written after the other: no more than it has is in memory."""
    by, given, period = filters.cleaned_data["by"], filters.cleaned_data, filters.period
    for first, last in [(day, day) for day in period.days] if _is_daily(by) else [(period.first, period.last)]:
        columns = (COLUMNS[name] for name in BY[by])
        found = daily.usage(first, last, *columns, account=given["account"], model=given["model"])
        days = [first] if _is_daily(by) else [first, last]
        yield from ([*days, *names, *_numbers(bill)] for names, bill in sorted(found.items()))


def _numbers(bill: Bill) -> list[object]:
    used = bill.tokens
    counts = (bill.requests, used.input, used.cached, used.output, used.reasoning)
    return [*counts, plain(bill.list_amount), plain(bill.charged)]
