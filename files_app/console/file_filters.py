"""The filters of the list of files, as its address has them:

q                         a file's id or its beginning, or part of its filename
account                   the name, exactly
purpose                   batch, batch_output
state                     kept; deleted: by its tenant or an operator, with bytes that something still needs
created_from, created_to  2026-11-20, 2026-11-20 14:30, or 24h: ago
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django import forms
from django.core.exceptions import ValidationError
from django.db.models import Q, QuerySet
from django.http import QueryDict
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from billing_app.console.fields import AccountField
from config.console import keyset
from config.console.filtering import FilterForm, Moment, MomentField, part_of
from config.console.keyset import Place, Sort
from files_app.models import StoredFile

ORDER = Sort("created_at", descending=True)
PURPOSES: dict[str, Promise | str] = {
    StoredFile.Purpose.BATCH: pgettext_lazy("purpose of a file", "Input"),
    StoredFile.Purpose.BATCH_OUTPUT: pgettext_lazy("purpose of a file", "Result"),
}
STATES: dict[str, Promise | str] = {
    "kept": pgettext_lazy("state of a file", "Kept"),
    "deleted": pgettext_lazy("state of a file", "Deleted, still held"),
}


class FileFilters(FilterForm):
    q = forms.CharField(label=_("Search"), required=False, max_length=200)
    account = AccountField(label=_("Account"), required=False)
    purpose = forms.ChoiceField(label=_("Purpose"), required=False, choices=[("", _("Any")), *PURPOSES.items()])
    state = forms.ChoiceField(label=_("State"), required=False, choices=[("", _("Any")), *STATES.items()])
    created_from = MomentField(label=_("Created from"), required=False)
    created_to = MomentField(label=_("Created to"), required=False, whole_day=True)
    after = forms.CharField(required=False, max_length=200)
    before = forms.CharField(required=False, max_length=200)
    place = Place()

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        after, before = cleaned.get("after"), cleaned.get("before")
        if after and before:
            raise ValidationError(_("“after” and “before” do not go together."))
        if after or before:
            self.place = _place(str(after or before), backwards=bool(before))
        return cleaned

    def chosen(self, *, now: datetime) -> QuerySet[StoredFile]:
        # Not joined: SQLite would go through the accounts, and read every file of each.
        return StoredFile.objects.filter(*self._conditions(now)).prefetch_related("account")

    def _conditions(self, now: datetime) -> Iterator[Q]:
        given = self.cleaned_data
        if text := given["q"]:
            yield Q(public_id__startswith=text) | part_of("filename", text)
        for name in ("account", "purpose"):
            if value := given[name]:
                yield Q(**{name: value})
        if state := given["state"]:
            yield Q(deleted_at__isnull=state == "kept")
        if (since := given["created_from"]) is not None:
            yield Q(created_at__gte=_moment(since, now))
        if (until := given["created_to"]) is not None:
            yield Q(created_at__lt=_moment(until, now))


def _place(cursor: str, *, backwards: bool) -> Place:
    try:
        return keyset.place(cursor, ORDER, StoredFile, backwards=backwards)
    except keyset.BadCursor:
        raise ValidationError(_("There is no such page.")) from None


def _moment(given: Moment, now: datetime) -> datetime:
    return now - given if isinstance(given, timedelta) else given


class Chip(NamedTuple):
    """A filter that is in force, and the address without it."""

    label: Promise | str
    value: object
    without: str


def chips(filters: FileFilters) -> list[Chip]:
    words = PURPOSES | STATES
    return [
        Chip(filters[name].label, words.get(value, value), _without(filters.data, name))
        for name, value in filters.data.items()
        if value and name not in ("after", "before")
    ]


def first_page(params: QueryDict) -> QueryDict:
    others = params.copy()
    others.pop("after", None)
    others.pop("before", None)
    return others


def _without(params: Any, name: str) -> str:
    others = first_page(params)
    others.pop(name, None)
    return others.urlencode()
