"""Usage and spend: what was used and charged in some days, in tiles, a chart and tables."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, cast

from django.conf import settings
from django.db.models import Value
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from billing_app import daily, standing
from billing_app.amounts import rounded
from billing_app.console import statement, usage_tables
from billing_app.console.usage_filters import PERMISSION, Period, UsageFilters, changed, presets
from billing_app.console.usage_tables import Tenant, Usage
from billing_app.models import Account, Price
from billing_app.pricing import NOTHING, Bill, add, minus
from config.console.access import page
from config.console.charts import Series, bars
from config.console.filtering import problems_of, without_blanks
from config.templatetags.console import visible

TITLES: dict[str, Promise | str] = {
    "account": gettext_lazy("By account"),
    "model": gettext_lazy("By model"),
    "day": gettext_lazy("By day"),
}
TONES = ("brand", "info", "violet", "warning")
MOST_ROWS = 100
MOST_SUGGESTED = 300


@page(PERMISSION)
def usage(request: HttpRequest) -> HttpResponse:
    today = daily.day_of(timezone.now())
    filters = UsageFilters(request.GET, today=today)
    if any("" in request.GET.getlist(name) for name in filters.fields):
        query = without_blanks(request.GET, filters.fields).urlencode()
        return redirect(reverse("console:usage") + (f"?{query}" if query else ""))
    if problems := problems_of(filters):
        return render(request, "console/usage.html", _around(filters, None, today) | {"problems": problems}, status=400)
    context = _around(filters, filters.period, today) | _found(filters)
    if request.user.has_perm(statement.PERMISSION):
        context |= _statements(filters)
    return render(request, "console/usage.html", context)


def _around(filters: UsageFilters, period: Period | None, today: date) -> dict[str, Any]:
    return {
        "form": filters,
        "period": period,
        "zone": timezone.get_default_timezone_name(),
        "presets": presets(cast(QueryDict, filters.data), period, today),
        "suggestions": _suggestions(),
    }


def _suggestions() -> dict[str, list[str]]:
    """Names to choose from, in one query."""
    models = Price.objects.annotate(kind=Value("models")).values_list("kind", "model_name")
    accounts = Account.objects.annotate(kind=Value("accounts")).values_list("kind", "name")
    names: dict[str, list[str]] = {"models": [], "accounts": []}
    for kind, name in models.order_by().union(accounts.order_by()).order_by("-kind", "model_name")[:MOST_SUGGESTED]:
        names[kind].append(name)
    return names


def _found(filters: UsageFilters) -> dict[str, Any]:
    given = filters.cleaned_data
    used = usage_tables.of(filters.period.first, filters.period.last, account=given["account"], model=given["model"])
    return {
        "account": given["account"],
        "total": used.total,
        "saved": add([used.total.list_amount, minus(used.total.charged)]),
        "chart": _chart(filters.period, used),
        "tables": list(_tables(used, cast(QueryDict, filters.data))),
    }


def _statements(filters: UsageFilters) -> dict[str, Any]:
    """Of the account that is chosen, for each month; of all accounts, for the month that is looked at."""
    account, month = filters.cleaned_data["account"], filters.period.month
    return {"statements": standing.statement_months(account, timezone.now())} if account else {"month": month}


# The chart: a day's height is what it was charged, in parts by model


def _chart(period: Period, used: Usage) -> SafeString:
    return bars(_("Charged by day"), period.days, list(_series(period, used)), shown=_as_money)


def _series(period: Period, used: Usage) -> Iterator[Series]:
    names = list(used.by_model)
    shown = names if len(names) <= len(TONES) else names[: len(TONES) - 1]
    for name, tone in zip(shown, TONES, strict=False):
        yield Series(visible(name, 40), _charged(period, used, [name]), tone)
    if others := names[len(shown) :]:
        yield Series(_("Other models"), _charged(period, used, others), "neutral")
    if not names:
        yield Series(_("Charged"), _charged(period, used, []))


def _charged(period: Period, used: Usage, models: Sequence[str]) -> list[Decimal]:
    """On each day."""
    cells = used.by_day_and_model
    return [add(cells.get((day, name), NOTHING).charged for name in models) for day in period.days]


def _as_money(amount: Any) -> str:
    return f"{rounded(Decimal(amount))} {settings.CURRENCY}"


# The tables


@dataclass(frozen=True, slots=True)
class Row:
    """`query`: the page's address with nothing but this row's usage."""

    name: str
    bill: Bill
    query: str
    account_id: int | None


@dataclass(frozen=True, slots=True)
class Table:
    by: str
    title: Promise | str
    rows: list[Row]
    left_out: int
    csv: str


def _tables(used: Usage, params: QueryDict) -> Iterator[Table]:
    """None by what is chosen already: it would have one row, the total."""
    if "account" not in params:
        yield _table("account", used.by_account, params)
    if "model" not in params:
        yield _table("model", used.by_model, params)
    if len(used.by_day) > 1:
        yield _table("day", used.by_day, params)


def _table(by: str, bills: Mapping[Any, Bill], params: QueryDict) -> Table:
    rows = [_row(by, key, bill, params) for key, bill in list(bills.items())[:MOST_ROWS]]
    return Table(by, TITLES[by], rows, len(bills) - len(rows), changed(params, by=by))


def _row(by: str, key: Any, bill: Bill, params: QueryDict) -> Row:
    name = str(key.name if isinstance(key, Tenant) else key)
    query = changed(params, **({"from": name, "to": name} if by == "day" else {by: name}))
    return Row(name, bill, query, key.pk if isinstance(key, Tenant) else None)
