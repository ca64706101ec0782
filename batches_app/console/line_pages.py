"""The lines of a batch and one of them: what a tenant asked and got. Each look is in the audit log."""

from dataclasses import dataclass
from typing import Any

from django import forms
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils.http import urlencode
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext_lazy

from batches_app import lines
from batches_app.console import contents
from batches_app.console.batch_page import find
from batches_app.console.json_text import indented
from batches_app.lines import Asked, Bytes, CutOff, Entry, Gone, Kind
from batches_app.models import Batch
from batches_app.states import TERMINAL
from config.console.access import page
from config.console.filtering import FilterForm, problems_of
from config.templatetags.console import visible
from files_app.api import downloads
from files_app.jsonl import BOM

SHOWN_BYTES = 64 * 1024  # of a request or an answer; all of it can be downloaded
REQUEST, RESPONSE = "request", "response"
KINDS = {
    Kind.ALL: pgettext_lazy("lines", "All"),
    Kind.SUCCEEDED: pgettext_lazy("lines", "Succeeded"),
    Kind.FAILED: pgettext_lazy("lines", "Failed"),
    Kind.WAITING: pgettext_lazy("lines", "Without a result"),
}


class ListFilters(FilterForm):
    kind = forms.ChoiceField(label=gettext_lazy("Lines"), required=False)
    code = forms.CharField(label=gettext_lazy("Error code"), max_length=100, required=False)

    def __init__(self, data: Any, batch: Batch) -> None:
        super().__init__(data)
        kinds = [kind for kind in KINDS if kind != Kind.WAITING or batch.status not in TERMINAL]
        self.fields["kind"].choices = [(kind.value, KINDS[kind]) for kind in kinds]  # type: ignore[attr-defined]

    @property
    def code_chosen(self) -> str:
        return str(self.cleaned_data["code"])

    def kind_or(self, usual: Kind) -> Kind:
        return Kind.FAILED if self.code_chosen else Kind(self.cleaned_data["kind"] or usual)


class ListForm(ListFilters):
    custom_id = forms.CharField(label="custom_id", max_length=1000, required=False, strip=False)
    after = forms.RegexField(r"\A[loea][0-9-]{1,80}\Z", label=gettext_lazy("Page"), required=False)
    start = forms.RegexField(r"\A[loe]?[0-9-]{1,40}\Z", label=gettext_lazy("Page"), required=False)


class LineForm(ListFilters):
    start = forms.RegexField(r"\A[0-9-]{1,40}\Z", label=gettext_lazy("Page"), required=False)


@page("batches_app.view_batch", contents.READ)
def listing(request: HttpRequest, public_id: str) -> HttpResponse:
    batch = find(public_id)
    form = ListForm(request.GET, batch)
    context: dict[str, Any] = {"batch": batch, "form": form, "groups": list(batch.error_groups.all())}
    context["is_final"] = batch.status in TERMINAL
    if problems := problems_of(form):
        return render(request, "console/lines.html", context | {"problems": problems}, status=400)
    chosen = form.cleaned_data
    kind = form.kind_or(Kind.FAILED if batch.failed else Kind.SUCCEEDED)
    context |= {"kind": kind, "error_code": form.code_chosen}
    contents.viewed(request, batch, "search" if chosen["custom_id"] else f"{kind} {form.code_chosen}".strip())
    try:
        if chosen["custom_id"]:
            return _go_to(request, batch, chosen["custom_id"], context)
        context["found"] = lines.listed(batch, kind, form.code_chosen, chosen["after"])
    except Gone:
        context["is_gone"] = True
    return render(request, "console/lines.html", context)


def _go_to(request: HttpRequest, batch: Batch, custom_id: str, context: dict[str, Any]) -> HttpResponse:
    try:
        key = lines.find(batch, custom_id, context["form"].cleaned_data["start"])
    except CutOff as cut:
        return render(request, "console/lines.html", context | {"cut": cut})
    if key is None:
        context["problem"] = _("No line of this batch has the custom_id “%(id)s”.") % {"id": visible(custom_id, 80)}
        return render(request, "console/lines.html", context)
    return redirect("console:line", batch.public_id, key)


@page("batches_app.view_batch", contents.READ)
def line(request: HttpRequest, public_id: str, key: str) -> HttpResponse:
    batch = find(public_id)
    try:
        entry = lines.line(batch, key)
    except Gone:
        return _moved(batch, key)
    form = LineForm(request.GET, batch)
    context: dict[str, Any] = {"batch": batch, "key": key, "line": lines.told(entry), "form": form}
    if problems := problems_of(form):
        return render(request, "console/line.html", context | {"problems": problems}, status=400)
    context |= _beside(batch, key, form) | _asked(batch, entry, form.cleaned_data["start"])
    try:
        context["response_text"] = _shown(entry.result) if entry.result else None
    except Gone:
        raise Http404 from None
    contents.viewed(request, batch, key)
    return render(request, "console/line.html", context)


def _moved(batch: Batch, key: str) -> HttpResponse:
    """An address from while the batch ran still leads to the line."""
    try:
        return redirect("console:line", batch.public_id, lines.moved(batch, key))
    except Gone:
        raise Http404 from None


def _beside(batch: Batch, key: str, form: LineForm) -> dict[str, Any]:
    """The lines before and after it in the list that it was chosen from."""
    kind, code = form.kind_or(lines.kind_of(key)), form.code_chosen
    try:
        before, after = lines.neighbours(batch, key, kind, code)
    except Gone:  # that list is not of keys like this one
        before = after = ""
    query = urlencode({"kind": kind, "code": code} if code else {"kind": kind})
    return {"before": before, "after": after, "list_query": query}


def _asked(batch: Batch, entry: Entry, start: str) -> dict[str, Any]:
    try:
        asked = lines.request(batch, entry, start)
        return {"asked": asked, "request_text": _shown(asked.place)} if asked else {"is_unknown": True}
    except CutOff as cut:
        return {"cut": cut}
    except Gone:
        return {"is_gone": True}


@page("batches_app.view_batch", contents.READ)
def line_part(request: HttpRequest, public_id: str, key: str, part: str) -> HttpResponseBase:
    """The whole line, as it lies in the file."""
    batch = find(public_id)
    place = _place(batch, key, part, request.GET.get("start", "")) if part in (REQUEST, RESPONSE) else None
    if place is None:
        raise Http404
    try:
        span = range(place.offset, place.offset + place.size)
        answer = downloads.attachment(place.blob, span, f"{batch.public_id}-{key}-{part}.json")
    except FileNotFoundError:
        raise Http404 from None
    contents.downloaded(request, batch, f"{part} {key}")
    return answer


def _place(batch: Batch, key: str, part: str, start: str) -> Bytes | None:
    try:
        entry = lines.line(batch, key)
        if part == RESPONSE:
            return entry.result
        asked: Asked | None = lines.request(batch, entry, start)
    except (Gone, CutOff):
        return None
    return asked.place if asked else None


@dataclass(frozen=True, slots=True)
class Shown:
    text: str
    size: int
    is_cut: bool


def _shown(place: Bytes) -> Shown:
    raw = place.read(SHOWN_BYTES)
    text = indented(raw.removeprefix(BOM).decode(errors="replace"), SHOWN_BYTES)
    return Shown(_readable(text), place.size, is_cut=place.size > len(raw) or len(text) == SHOWN_BYTES)


def _readable(text: str) -> str:
    """Line ends and tabs stay; what else is unseen, or turns the direction, is written out."""
    return "\n".join("\t".join(visible(part, SHOWN_BYTES) for part in row.split("\t")) for row in text.split("\n"))
