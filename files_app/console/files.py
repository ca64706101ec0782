"""The list of files, filtered and paged by its address alone, and their bytes."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.db.models import Count
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, QueryDict
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from billing_app import audit
from billing_app.models import Account
from config.console import keyset
from config.console.access import page
from config.console.filtering import first_page, problems_of, without_blanks
from config.console.keyset import MOST_COUNTED
from files_app.api import downloads
from files_app.console.file_filters import ORDER, FileFilters
from files_app.models import FileHold, StoredFile

log = logging.getLogger(__name__)

SIZE = 50
MOST_SUGGESTED = 300
_RESULT = re.compile(r"(batch_\w+)_(output|error)\.jsonl", re.ASCII)


@dataclass(frozen=True, slots=True)
class Row:
    """`holders`: batches that need its bytes now. `made_by`: the batch whose result it is."""

    file: StoredFile
    holders: int
    made_by: str


@page("files_app.view_storedfile")
def files(request: HttpRequest) -> HttpResponse:
    if any("" in request.GET.getlist(name) for name in FileFilters.base_fields):
        return redirect(_address(without_blanks(request.GET, FileFilters.base_fields)))
    filters = FileFilters(request.GET)
    if problems := problems_of(filters):
        return render(request, "console/files.html", _around(filters) | {"problems": problems}, status=400)
    found = keyset.page(filters.chosen(now=timezone.now()), ORDER, filters.place, SIZE)
    if filters.place.backwards and found.before is None and len(found.rows) < SIZE:
        return redirect(_address(first_page(request.GET)))  # a whole first page, not the part that is before a row
    context = {
        "page": found,
        "rows": rows(found.rows),
        "count": min(found.count, MOST_COUNTED),
        "has_more": found.count > MOST_COUNTED,
        "chips": filters.chips(),
    }
    return render(request, "console/files.html", _around(filters) | context)


def _address(params: QueryDict) -> str:
    query = params.urlencode()
    return reverse("console:files") + (f"?{query}" if query else "")


def _around(filters: FileFilters) -> dict[str, Any]:
    names = Account.objects.order_by("name").values_list("name", flat=True)
    return {"form": filters, "accounts": names[:MOST_SUGGESTED]}


def rows(files: Sequence[StoredFile]) -> list[Row]:
    held = FileHold.objects.filter(file__in=files).order_by().values_list("file").annotate(Count("pk"))
    holders = dict(held)
    return [Row(file, holders.get(file.pk, 0), made_by(file)) for file in files]


def made_by(file: StoredFile) -> str:
    """The batch whose result it is, by its name, which is given by us; that of an input is its tenant's."""
    found = _RESULT.fullmatch(file.filename) if file.purpose == StoredFile.Purpose.BATCH_OUTPUT else None
    return found[1] if found else ""


def find(public_id: str) -> StoredFile:
    """PostgreSQL has no NUL in its text: what has one is not there."""
    return get_object_or_404(StoredFile.objects.select_related("account"), public_id=public_id.replace("\0", ""))


@page("files_app.view_storedfile", "batches_app.read_contents", methods=["GET"])
def download(request: HttpRequest, public_id: str) -> HttpResponseBase:
    file = find(public_id)
    if file.deleted_at is not None:
        raise Http404
    try:
        answer = downloads.whole(file, filename_for_operators(file))
    except FileNotFoundError:
        log.exception("Blob %s of file %s is not there", file.blob, file)
        messages.error(request, _("The bytes of this file are not where they should be. The log has the details."))
        return redirect("console:file", file.public_id)
    by = audit.by(request)
    audit.record(**by, action="contents.downloaded", target=file, account=file.account.name, changes={})
    return answer


def filename_for_operators(file: StoredFile) -> str:
    return file.filename if made_by(file) else f"{file.public_id}.jsonl"
