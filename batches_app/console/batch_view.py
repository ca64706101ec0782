"""How the list of batches is shown: its order, the size of a page, and which page."""

from typing import Any, NamedTuple, cast

from django import forms
from django.http import QueryDict
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from batches_app.models import Batch
from config.console import keyset
from config.console.filtering import first_page
from config.console.keyset import Place, Sort

NEWEST = "-created"
SORTS = {
    NEWEST: (Sort("created_at", descending=True), gettext_lazy("Newest first")),
    "created": (Sort("created_at", descending=False), gettext_lazy("Oldest first")),
    "deadline": (Sort("expires_at", descending=False), gettext_lazy("Soonest deadline first")),
    "-deadline": (Sort("expires_at", descending=True), gettext_lazy("Latest deadline first")),
    "-requests": (Sort("total", descending=True), gettext_lazy("Most requests first")),
    "requests": (Sort("total", descending=False), gettext_lazy("Fewest requests first")),
    "-failed": (Sort("failed", descending=True), gettext_lazy("Most failed requests first")),
    "failed": (Sort("failed", descending=False), gettext_lazy("Fewest failed requests first")),
}
SIZES = (25, 50, 100)
SIZE = 50


class ViewForm(forms.Form):
    sort = forms.ChoiceField(
        label=gettext_lazy("Order"), required=False, choices=[(name, label) for name, (_sort, label) in SORTS.items()]
    )
    size = forms.TypedChoiceField(
        label=gettext_lazy("Rows"),
        required=False,
        coerce=int,
        choices=[(n, n) for n in SIZES],
        empty_value=cast(Any, SIZE),
    )
    after = forms.CharField(required=False, max_length=200)
    before = forms.CharField(required=False, max_length=200)
    place = Place()

    def clean_sort(self) -> str:
        return str(self.cleaned_data["sort"] or NEWEST)

    def clean(self) -> dict[str, Any]:
        after, before = self.cleaned_data.get("after"), self.cleaned_data.get("before")
        if after and before:
            raise forms.ValidationError(_("“after” and “before” do not go together."))
        if (after or before) and "sort" in self.cleaned_data:
            self.place = self._place(str(after or before), backwards=bool(before))
        return self.cleaned_data

    def _place(self, cursor: str, *, backwards: bool) -> Place:
        try:
            return keyset.place(cursor, self.order, Batch, backwards=backwards)
        except keyset.BadCursor:
            raise forms.ValidationError(_("There is no such page in this order.")) from None

    @property
    def order(self) -> Sort:
        return SORTS[self.cleaned_data["sort"]][0]

    @property
    def selects(self) -> list[tuple[forms.BoundField, list["Option"]]]:
        """Of what is the case anyhow the value is empty, so that it is not in the address."""
        sort, size = self.cleaned_data.get("sort", NEWEST), self.cleaned_data.get("size", SIZE)
        sorts = [Option("" if name == NEWEST else name, label, name == sort) for name, (_order, label) in SORTS.items()]
        sizes = [Option("" if n == SIZE else str(n), str(n), n == size) for n in SIZES]
        return [(self["sort"], sorts), (self["size"], sizes)]

    @property
    def size_chosen(self) -> int:
        return int(self.cleaned_data["size"])

    @property
    def is_newest_first(self) -> bool:
        return bool(self.cleaned_data["sort"] == NEWEST)


class Option(NamedTuple):
    value: str
    label: Promise | str
    is_on: bool


class Heading(NamedTuple):
    label: Promise
    query: str = ""  # of the list sorted by it; empty: there is no index for that
    direction: str = ""  # as aria-sort has it
    is_number: bool = False


_BY = {"created": NEWEST, "deadline": "deadline", "requests": "-requests", "failed": "-failed"}  # at the first click


def headings(view: ViewForm, params: QueryDict) -> list[Heading]:
    now = view.cleaned_data["sort"]

    def by(name: str, label: Promise) -> Heading:
        if now.lstrip("-") != name:
            return Heading(label, _sorted(params, _BY[name]))
        is_down = now.startswith("-")
        other = name if is_down else f"-{name}"
        return Heading(label, _sorted(params, other), "descending" if is_down else "ascending")

    return [
        Heading(gettext_lazy("Batch")),
        Heading(gettext_lazy("Account, model")),
        Heading(gettext_lazy("Status")),
        by("requests", gettext_lazy("Requests")),
        by("failed", gettext_lazy("Errors")),
        by("created", gettext_lazy("Created")),
        by("deadline", gettext_lazy("Deadline")),
        Heading(gettext_lazy("Charged, tokens"), is_number=True),
    ]


def _sorted(params: QueryDict, sort: str) -> str:
    others = first_page(params)
    others.setlist("sort", [] if sort == NEWEST else [sort])
    return others.urlencode()
