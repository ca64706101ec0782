"""What the page of usage is about, as its address has it:

from, to  days as 2026-11-20, both included, of TIME_ZONE; without them this month until today
account   the name, exactly
model     the name, exactly
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, NamedTuple

from django import forms
from django.core.exceptions import ValidationError
from django.http import QueryDict
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from billing_app.console.fields import AccountField
from config.console.filtering import FilterForm

PERMISSION = "billing_app.view_ledgerentry"
MOST_DAYS = 366
A_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Period:
    first: date
    last: date

    @property
    def days(self) -> list[date]:
        return [self.first + number * A_DAY for number in range((self.last - self.first).days + 1)]

    @property
    def month(self) -> str:
        """The one month that all of it is in, or none."""
        months = {f"{day:%Y-%m}" for day in (self.first, self.last)}
        return months.pop() if len(months) == 1 else ""


class UsageFilters(FilterForm):
    account = AccountField(label=_("Account"), required=False)
    model = forms.CharField(label=_("Model"), required=False, max_length=200)

    def __init__(self, params: QueryDict, *, today: date) -> None:
        super().__init__(params)
        self.period = Period(today.replace(day=1), today)
        self._today = today
        # Not declared above: `from` is no name for Python.
        self.fields |= {"from": _day(_("From")), "to": _day(_("To"))}
        self.order_fields(["from", "to"])

    def clean(self) -> dict[str, Any]:
        given = super().clean()
        if not self.errors:
            self.period = _period(given["from"], given["to"], self._today)
        return given


def _day(label: Any) -> forms.DateField:
    look = forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d")
    wrong = {"invalid": _("Write a day as 2026-11-20.")}
    return forms.DateField(label=label, required=False, input_formats=["%Y-%m-%d"], widget=look, error_messages=wrong)


def _period(first: date | None, last: date | None, today: date) -> Period:
    last = last or max(today, first or today)
    period = Period(first or last.replace(day=1), last)
    if period.first > period.last:
        raise ValidationError(_("The first day is later than the last one."))
    if (period.last - period.first).days >= MOST_DAYS:
        raise ValidationError(_("These are more than %(most)d days."), params={"most": MOST_DAYS})
    return period


class Preset(NamedTuple):
    label: Promise | str
    query: str
    is_on: bool


def presets(params: QueryDict, period: Period | None, today: date) -> list[Preset]:
    """Each beside the other filters that are in force."""
    return [Preset(label, _query(params, chosen, today), chosen == period) for label, chosen in _often(today)]


def _often(today: date) -> Iterator[tuple[Promise | str, Period]]:
    this_month = today.replace(day=1)
    last_month = this_month - A_DAY
    yield _("Today"), Period(today, today)
    yield _("7 days"), Period(today - 6 * A_DAY, today)
    yield _("This month"), Period(this_month, today)
    yield _("Last month"), Period(last_month.replace(day=1), last_month)


def _query(params: QueryDict, period: Period, today: date) -> str:
    others = changed(params, **{"from": None, "to": None})
    if period == Period(today.replace(day=1), today):
        return others  # what the page shows by itself, tomorrow too
    return changed(params, **{"from": f"{period.first}", "to": f"{period.last}"})


def changed(params: QueryDict, **changes: str | None) -> str:
    """The address's parameters with these changed; None: left out."""
    others = params.copy()
    for name, value in changes.items():
        others.pop(name, None)
        if value is not None:
            others[name] = value
    return others.urlencode()
