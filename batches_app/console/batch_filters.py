"""The filters of the list of batches, as its address has them.

    status           validating, in_progress … and under_way for all that has not ended; several, by comma or repeated
    account, model   the name, exactly
    endpoint         exactly
    created_from, created_to, deadline_after, deadline_before
                     2026-11-20, 2026-11-20 14:30, or 24h: ago for what was created, from now for deadlines
    has_errors       yes: with failed requests; no: without
    attention        late, stuck, failed, many_errors: what the overview says needs attention
    q                a batch's id or its beginning, the id of one of its files, or part of its name
    work             running: a lane works on it now; waiting: for its turn, or to be validated
    custom_id        of a request within; a search that batch_list carries out, not a filter

Whatever else the address has, a wrong value or a name that is not here, is an error that is shown: a list that looks
filtered and is not would be trusted.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple

import django_filters
from django import forms
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Coalesce
from django.http import QueryDict
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from batches_app import attention
from batches_app.attention import Kind
from batches_app.console import looks
from batches_app.console.filter_fields import ChoicesField
from batches_app.models import Batch
from batches_app.models.routing import TEST_ENDPOINT, UPSTREAM_ENDPOINTS
from batches_app.states import TERMINAL, Status
from billing_app.models import Account
from config.console.filtering import (
    Chip,
    FilterForm,
    Moment,
    MomentField,
    chip_label,
    first_page,
    part_of,
    problems_of,
    without,
    word_of,
)

_ATTENTION: dict[str, Promise | str] = {
    Kind.LATE: _("Late: will miss the deadline at this speed"),
    Kind.STUCK: _("Stuck: no worker takes the next step"),
    Kind.FAILED: _("Failed within 24 h"),
    Kind.MANY_ERRORS: _("Many failed requests lately"),
}
UNDER_WAY = [status for status in Status if status not in TERMINAL]
VIEWING = ("sort", "size", "after", "before")  # how the rows are shown, not which
SEVERAL = "status"
SEARCHED = "custom_id"


class InvalidFilters(ValueError):
    """The argument says in a sentence what is wrong."""


class _Form(FilterForm):
    elsewhere, repeatable = VIEWING, (SEVERAL,)


class _Moment(django_filters.Filter):  # type: ignore[misc]  # untyped, as all of django-filter
    field_class = MomentField


class _Choices(django_filters.Filter):  # type: ignore[misc]
    field_class = ChoicesField


class BatchFilters(django_filters.FilterSet):  # type: ignore[misc]
    q = django_filters.CharFilter(label=_("Search"), method="search", max_length=200)
    status = _Choices(
        label=_("Status"),
        lookup_expr="in",
        choices=[(str(status), looks.label(status)) for status in Status],
        aliases={"under_way": UNDER_WAY},
    )
    account = django_filters.ModelChoiceFilter(
        label=_("Account"),
        queryset=Account.objects.only("name"),
        to_field_name="name",
        widget=forms.TextInput,
        error_messages={"invalid_choice": _("There is no account of this name.")},
    )
    model = django_filters.CharFilter(label=_("Model"), field_name="model_name", max_length=200)
    endpoint = django_filters.ChoiceFilter(
        label=_("Endpoint"),
        choices=[(endpoint, endpoint) for endpoint in (*UPSTREAM_ENDPOINTS, TEST_ENDPOINT)],
        empty_label=_("Any"),
    )
    created_from = _Moment(label=_("Created from"), method="created_since")
    created_to = _Moment(label=_("Created to"), method="created_until", whole_day=True)
    deadline_after = _Moment(label=_("Deadline after"), method="due_after")
    deadline_before = _Moment(label=_("Deadline before"), method="due_before")
    has_errors = django_filters.ChoiceFilter(
        label=_("Failed requests"),
        choices=[("yes", _("Some")), ("no", _("None"))],
        empty_label=_("Any"),
        method="with_errors",
    )
    attention = django_filters.ChoiceFilter(
        label=_("Needs attention"),
        choices=[(kind, _ATTENTION[kind]) for kind in attention.LISTS],
        empty_label=_("Any"),
        method="needing_attention",
    )
    work = django_filters.ChoiceFilter(
        label=_("At work"),
        choices=[("running", _("Running now")), ("waiting", _("Waiting"))],
        empty_label=_("Any"),
        method="at_work",
    )
    custom_id = django_filters.CharFilter(label="custom_id", max_length=1000, strip=False, method="beside")

    class Meta:
        model = Batch
        form = _Form
        fields: tuple[str, ...] = ()

    def __init__(self, data: QueryDict, *, now: datetime) -> None:
        super().__init__(data, Batch.objects.all())
        self._now = now

    def search(self, batches: QuerySet[Batch], name: str, text: str) -> QuerySet[Batch]:
        # Only what can be: a condition more, and SQLite compares it with each of all rows.
        wanted = part_of("name", text)
        if text.startswith("batch_"):
            wanted |= Q(public_id__startswith=text)
        if text.startswith("file-"):
            wanted |= Q(input_file_id=text) | Q(output_file_id=text) | Q(error_file_id=text)
        return batches.filter(wanted)

    def created_since(self, batches: QuerySet[Batch], name: str, moment: Moment) -> QuerySet[Batch]:
        return batches.filter(created_at__gte=moment if isinstance(moment, datetime) else self._now - moment)

    def created_until(self, batches: QuerySet[Batch], name: str, moment: Moment) -> QuerySet[Batch]:
        return batches.filter(created_at__lt=moment if isinstance(moment, datetime) else self._now - moment)

    def due_after(self, batches: QuerySet[Batch], name: str, moment: Moment) -> QuerySet[Batch]:
        since = moment if isinstance(moment, datetime) else self._now + moment
        return self._due(batches).filter(due__gte=since)  # type: ignore[misc]  # an annotation

    def due_before(self, batches: QuerySet[Batch], name: str, moment: Moment) -> QuerySet[Batch]:
        until = moment if isinstance(moment, datetime) else self._now + moment
        return self._due(batches).filter(due__lt=until)  # type: ignore[misc]  # an annotation

    def _due(self, batches: QuerySet[Batch]) -> QuerySet[Batch]:
        """Under way are few, and their state finds them. SQLite would rather go through all the deadlines that ever
        were; COALESCE hides their index."""
        chosen = self.form.cleaned_data["status"]
        few = bool(chosen) and {*chosen} <= {*UNDER_WAY}
        return batches.alias(due=Coalesce("expires_at", "expires_at") if few else F("expires_at"))

    def with_errors(self, batches: QuerySet[Batch], name: str, value: str) -> QuerySet[Batch]:
        return batches.filter(failed__gt=0) if value == "yes" else batches.filter(failed=0)

    def needing_attention(self, batches: QuerySet[Batch], name: str, kind: str) -> QuerySet[Batch]:
        return batches.filter(pk__in=attention.LISTS[kind](self._now).values("pk"))

    def at_work(self, batches: QuerySet[Batch], name: str, value: str) -> QuerySet[Batch]:
        return batches.filter(attention.WORK[value])

    def beside(self, batches: QuerySet[Batch], name: str, value: str) -> QuerySet[Batch]:
        return batches

    @property
    def custom_id_sought(self) -> str:
        return str(self.form.cleaned_data[SEARCHED])


def filtered(params: QueryDict) -> QuerySet[Batch]:
    """All batches that the list of this address goes through. Raises InvalidFilters, also for a search by custom_id:
    its rows are a part of those only."""
    filters = BatchFilters(params, now=timezone.now())
    if not filters.is_valid():
        raise InvalidFilters(" ".join(problems_of(filters.form)))
    if filters.custom_id_sought:
        raise InvalidFilters(str(_("A search by custom_id shows single batches: select them one by one.")))
    found: QuerySet[Batch] = filters.qs
    return found


# What the page shows of the filters


def chips(filters: BatchFilters) -> list[Chip]:
    return list(_chips(filters))


def _chips(filters: BatchFilters) -> Iterator[Chip]:
    for name, value in filters.form.cleaned_data.items():
        label = filters.form.fields[name].label
        if name == SEVERAL:
            yield from _status_chips(filters.data, label, value)
        elif value not in (None, ""):
            word = word_of(filters.form.fields[name], filters.data[name])
            yield Chip(chip_label(name, label, value), word, without(filters.data, name))


def _status_chips(data: QueryDict, label: Any, statuses: list[str]) -> Iterator[Chip]:
    if set(statuses) == set(UNDER_WAY):
        yield Chip(label, _("Under way"), without(data, SEVERAL))
        return
    for status in statuses:
        yield Chip(label, looks.label(status), without(data, SEVERAL, [one for one in statuses if one != status]))


class Preset(NamedTuple):
    label: Promise | str
    params: dict[str, str]


PRESETS = (
    Preset(_("All"), {}),
    Preset(_("Under way"), {"status": "under_way"}),
    Preset(_("Failed"), {"status": "failed"}),
    Preset(_("With errors"), {"has_errors": "yes"}),
    Preset(_("Late"), {"attention": "late"}),
    Preset(_("Due within 1 h"), {"status": "under_way", "deadline_before": "1h"}),
)
_PRESET = {name for preset in PRESETS for name in preset.params} | {"deadline_after"}


class Segment(NamedTuple):
    label: Promise | str
    query: str
    is_on: bool


def segments(data: QueryDict) -> list[Segment]:
    """The presets, each beside the other filters that are in force."""
    now = {name: data.getlist(name) for name in _PRESET if data.get(name)}
    others = first_page(data)
    for name in _PRESET:
        others.pop(name, None)
    return [_segment(preset, others.copy(), now) for preset in PRESETS]


def _segment(preset: Preset, params: QueryDict, now: dict[str, list[str]]) -> Segment:
    params.update(preset.params)
    return Segment(preset.label, params.urlencode(), now == {name: [value] for name, value in preset.params.items()})
