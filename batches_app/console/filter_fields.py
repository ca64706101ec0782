"""Form fields of the filters: what people type in, and what addresses carry."""

import re
from collections.abc import Iterable, Mapping
from datetime import date, datetime, time, timedelta
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime
from django.utils.translation import gettext_lazy as _

YEARS = range(1971, 9999)  # the first and the last that a database knows overflow when they are moved to UTC
_SPAN = re.compile(r"(\d{1,5})([mhd])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}

Moment = datetime | timedelta


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


class ChoicesField(forms.MultipleChoiceField):
    """Several values: the parameter repeated, or with commas. A name of `aliases` stands for several."""

    widget = forms.CheckboxSelectMultiple

    def __init__(self, *, aliases: Mapping[str, Iterable[str]], **options: Any) -> None:
        super().__init__(**options)
        self._aliases = aliases

    def to_python(self, value: Any) -> list[str]:
        return self._spread(value or [])

    def bound_data(self, data: Any, initial: Any) -> Any:
        return self._spread(data or [])

    def _spread(self, values: Iterable[str]) -> list[str]:
        words = [word.strip() for value in values for word in str(value).split(",") if word.strip()]
        return list(dict.fromkeys(name for word in words for name in self._aliases.get(word, [word])))
