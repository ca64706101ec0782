"""Filters as a page's address has them.

Whatever else the address has, a wrong value, a name that the page does not know, the same name twice, is an error
that is shown: a list that looks filtered and is not would be trusted.
"""

import re
from collections.abc import Iterable
from datetime import date, datetime, time, timedelta
from typing import Any, NamedTuple

from django import forms
from django.core.exceptions import ValidationError
from django.db.models import Model, Q
from django.http import QueryDict
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from config.console import keyset
from config.console.keyset import Place, Sort

PAGING = ("after", "before")
YEARS = range(1971, 9999)  # the first and the last that a database knows overflow when they are moved to UTC
_SPAN = re.compile(r"(\d{1,5})([mhd])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}

Moment = datetime | timedelta


class FilterForm(forms.Form):
    """`elsewhere`: names that something else on the page knows. `repeatable`: may be given more than once."""

    elsewhere: tuple[str, ...] = ()
    repeatable: tuple[str, ...] = ()

    def clean(self) -> dict[str, Any]:
        for name in self.data:
            if name not in self.fields and name not in self.elsewhere:
                raise ValidationError(_("There is no filter “%(name)s”."), params={"name": name[:50]})
            if name not in self.repeatable and len(self.data.getlist(name)) > 1:  # type: ignore[attr-defined]  # a QueryDict
                raise ValidationError(_("“%(name)s” is given more than once."), params={"name": name})
        return self.cleaned_data


class PagedFilters(FilterForm):
    """Of a list of `model` in one `order`, whose pages have keys in the address."""

    model: type[Model]
    order: Sort
    after = forms.CharField(required=False, max_length=800)  # a key may have a name in it
    before = forms.CharField(required=False, max_length=800)
    place = Place()

    def clean(self) -> dict[str, Any]:
        given = super().clean()
        after, before = given.get("after"), given.get("before")
        if after and before:
            raise ValidationError(_("“after” and “before” do not go together."))
        if after or before:
            self.place = self._place(str(after or before), backwards=bool(before))
        return given

    def chips(self) -> list["Chip"]:
        return [
            Chip(chip_label(name, self[name].label, value), word_of(self.fields[name], value), without(self.data, name))
            for name, value in self.data.items()
            if value and name not in PAGING
        ]

    def _place(self, cursor: str, *, backwards: bool) -> Place:
        try:
            return keyset.place(cursor, self.order, self.model, backwards=backwards)
        except keyset.BadCursor:
            raise ValidationError(_("There is no such page.")) from None


class Chip(NamedTuple):
    """A filter that is in force, and the address without it."""

    label: Promise | str
    value: object
    without: str


def problems_of(form: forms.BaseForm) -> list[str]:
    """What is wrong, in sentences; of a field with its name before."""
    return [
        str(message) if name == "__all__" else f"{form[name].label}: {message}"
        for name, messages in form.errors.items()
        for message in messages
    ]


def without_blanks(params: QueryDict, known: Iterable[str]) -> QueryDict:
    """What a form leaves empty is not what an address is about that is passed on."""
    others = params.copy()
    for name in known:
        others.setlist(name, [value for value in params.getlist(name) if value])
    return others


def first_page(params: QueryDict) -> QueryDict:
    others = params.copy()
    for name in PAGING:
        others.pop(name, None)
    return others


def without(params: Any, name: str, left: Iterable[str] = ()) -> str:
    """The address's parameters without that one, or with these of its values left, on the first page."""
    others = first_page(params)
    others.setlist(name, list(left))
    return others.urlencode()


def part_of(column: str, text: str) -> Q:
    """Texts in which this one occurs. The index of trigrams has no use for less than three letters in a row: those are
    looked for at the beginning only."""
    return Q(**{f"{column}__icontains" if _is_long_enough(text) else f"{column}__istartswith": text})


def chip_label(name: str, label: Any, value: object) -> Promise | str:
    """As the field has it; a search that is one of beginnings alone says so."""
    is_short = name == "q" and not _is_long_enough(str(value))
    return _("Search at the beginning (elsewhere: with three letters)") if is_short else label


def word_of(field: forms.Field, value: str) -> object:
    """What the page calls it."""
    if isinstance(field, forms.ModelChoiceField) or not isinstance(field, forms.ChoiceField):
        return value  # as it was typed in
    choices: Any = field.choices  # its stubs name all that may be assigned
    return dict(choices).get(value, value)


def _is_long_enough(text: str) -> bool:
    return bool(re.search(r"[^\W_]{3}", text))


def moment_of(given: Moment, now: datetime) -> datetime:
    """A span is one into the past."""
    return now - given if isinstance(given, timedelta) else given


class MomentField(forms.CharField):
    """2026-11-20, 2026-11-20 14:30 (in the viewer's zone, unless it has one of its own), or a span from now: 30m, 24h,
    7d. A span stays one, so that an address that was kept means the same tomorrow."""

    default_error_messages = {
        "invalid": _("Write a date (2026-11-20), a time (2026-11-20 14:30) or a span from now (30m, 24h, 7d).")
    }

    def __init__(self, *, whole_day: bool = False, **options: Any) -> None:
        """`whole_day`: a date stands for the end of its day, not for the beginning."""
        super().__init__(max_length=40, **options)
        self._whole_day = whole_day

    def clean(self, value: Any) -> Moment | None:
        text = super().clean(value)
        if not text:
            return None
        if span := _SPAN.fullmatch(text):
            return timedelta(**{_UNITS[span[2]]: int(span[1])})
        try:
            moment = self._moment(text)
        except (ValueError, OverflowError):
            moment = None
        if moment is None or moment.year not in YEARS:
            raise ValidationError(self.error_messages["invalid"], code="invalid")
        return moment

    def _moment(self, text: str) -> datetime | None:
        if day := parse_date(text):
            return self._midnight(day)
        moment = parse_datetime(text)
        return timezone.make_aware(moment) if moment and timezone.is_naive(moment) else moment

    def _midnight(self, day: date) -> datetime:
        return timezone.make_aware(datetime.combine(day + timedelta(days=self._whole_day), time.min))
