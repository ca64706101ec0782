"""The lines of a batch and one of them: what a tenant asked and got. Each look is in the audit log."""

from collections.abc import Iterator
from typing import Any, BinaryIO

from django import forms
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.utils.http import content_disposition_header
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from batches_app import lines
from batches_app.console.batch_page import find
from batches_app.console.json_text import indented
from batches_app.lines import Bytes, CutOff, Gone
from batches_app.models import Batch
from billing_app import audit
from config.console.access import page
from config.templatetags.console import visible

CONTENTS = "batches_app.read_contents"
SHOWN_BYTES = 64 * 1024  # of a request or an answer; the whole of it can be downloaded
CHUNK_BYTES = 256 * 1024
PARTS = ("request", "response")


class Filters(forms.Form):
    kind = forms.ChoiceField(
        label=gettext_lazy("Lines"),
        choices=[("failed", gettext_lazy("Failed")), ("succeeded", gettext_lazy("Succeeded"))],
        required=False,
    )
    code = forms.CharField(label=gettext_lazy("Error code"), max_length=100, required=False)
    custom_id = forms.CharField(label="custom_id", max_length=1000, required=False, strip=False)
    after = forms.RegexField(r"[loe]\d{1,15}", label=gettext_lazy("Page"), required=False)


@page("batches_app.view_batch", CONTENTS)
def listing(request: HttpRequest, public_id: str) -> HttpResponse:
    batch = find(public_id)
    form = Filters(request.GET)
    context: dict[str, Any] = {"batch": batch, "form": form, "groups": list(batch.error_groups.all())}
    if not form.is_valid():
        return render(request, "console/lines.html", context, status=400)
    chosen = form.cleaned_data
    kind = chosen["kind"] or ("failed" if batch.failed or chosen["code"] else "succeeded")
    context |= {"kind": kind, "code": chosen["code"]}
    _record(request, batch, "contents.viewed", f"{kind} {chosen['code']}".strip())
    try:
        if chosen["custom_id"]:
            return _go_to(request, batch, chosen["custom_id"], context)
        context["found"] = lines.listed(batch, kind, chosen["code"], chosen["after"])
    except Gone:
        context["is_gone"] = True
    return render(request, "console/lines.html", context)


def _go_to(request: HttpRequest, batch: Batch, custom_id: str, context: dict[str, Any]) -> HttpResponse:
    try:
        key = lines.find(batch, custom_id)
    except CutOff:
        context["problem"] = _("The files are too large to be looked through while you wait. Download them instead.")
        return render(request, "console/lines.html", context)
    if key is None:
        context["problem"] = _("No line of this batch has the custom_id “%(id)s”.") % {"id": visible(custom_id, 80)}
        return render(request, "console/lines.html", context)
    return redirect("console:line", batch.public_id, key)


@page("batches_app.view_batch", CONTENTS)
def line(request: HttpRequest, public_id: str, key: str) -> HttpResponse:
    batch = find(public_id)
    try:
        context = _line(batch, key)
    except Gone:
        raise Http404 from None
    _record(request, batch, "contents.viewed", key)
    return render(request, "console/line.html", context)


def _line(batch: Batch, key: str) -> dict[str, Any]:
    told = _told(lines.result(batch, key))
    asked, is_cut_off = _asked(batch, told["custom_id"], key)
    context = {"batch": batch, "key": key, "result": told, "asked": asked, "is_cut_off": is_cut_off}
    return context | ({"request_text": _shown(asked.place)} if asked and asked.place else {})


@page("batches_app.view_batch", CONTENTS)
def line_part(request: HttpRequest, public_id: str, key: str, part: str) -> HttpResponseBase:
    """The whole line, as it lies in the file."""
    batch = find(public_id)
    place = _place(batch, key, part) if part in PARTS else None
    if place is None:
        raise Http404
    try:
        file = place.open()
    except Gone:
        raise Http404 from None
    _record(request, batch, "contents.downloaded", f"{part} {key}")
    headers = {
        "Content-Disposition": content_disposition_header(True, f"{batch.public_id}-{key}-{part}.json"),
        "Content-Length": str(place.size),
    }
    return StreamingHttpResponse(_stream(file, place.size), content_type="application/octet-stream", headers=headers)


def _place(batch: Batch, key: str, part: str) -> Bytes | None:
    try:
        result = lines.result(batch, key)
    except Gone:
        return None
    if part == "response":
        return result
    asked, _is_cut_off = _asked(batch, _told(result)["custom_id"], key)
    return asked.place if asked else None


def _stream(file: BinaryIO, left: int) -> Iterator[bytes]:
    with file:
        while left and (data := file.read(min(CHUNK_BYTES, left))):
            left -= len(data)
            yield data


def _asked(batch: Batch, custom_id: str, key: str) -> tuple[lines.Asked | None, bool]:
    try:
        return lines.request(batch, custom_id, key), False
    except (CutOff, Gone) as error:
        return None, isinstance(error, CutOff)


def _told(result: Bytes | None) -> dict[str, Any]:
    """Of a result line: whose it is, how it ended, and its text for the page."""
    if result is None:
        return {"custom_id": "", "status": None, "code": "", "text": None}
    custom_id, status, code = lines.told(result.read(lines.HEAD_BYTES))
    return {"custom_id": custom_id, "status": status, "code": code, "text": _shown(result)}


def _shown(place: Bytes) -> dict[str, Any]:
    raw = place.read(SHOWN_BYTES)
    text = indented(raw.decode(errors="replace"), SHOWN_BYTES)
    return {"text": _readable(text), "is_cut": place.size > len(raw) or len(text) == SHOWN_BYTES, "size": place.size}


def _readable(text: str) -> str:
    """Line ends and tabs stay; what else is unseen, or turns the direction, is written out."""
    return "\n".join("\t".join(visible(part, SHOWN_BYTES) for part in row.split("\t")) for row in text.split("\n"))


def _record(request: HttpRequest, batch: Batch, action: str, what: str) -> None:
    changes = {"lines": (None, what[:200])}
    audit.record(**audit.by(request), action=action, target=batch, account=batch.account.name, changes=changes)
