"""The list's search by custom_id: not a filter, for no row tells, but a look into the batches that the filters leave.
Only for those who may read what tenants send; each search is in the audit trail."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from batches_app import custom_ids
from batches_app.console.batch_filters import BatchFilters
from batches_app.console.batch_rows import Row, columns, told_live
from batches_app.console.batch_view import ViewForm
from batches_app.custom_ids import Search
from batches_app.models import Batch
from billing_app import audit
from config.console import keyset
from config.console.keyset import MOST_COUNTED, Page

MOST = 500  # batches at a time, however small their files


def searched(request: HttpRequest, filters: BatchFilters, view: ViewForm, now: datetime) -> dict[str, Any]:
    if not request.user.has_perm("batches_app.read_contents"):
        raise PermissionDenied
    files = Batch.objects.select_related("source").only("public_id", view.order.column, "source__blob")
    candidates = keyset.page(filters.qs, view.order, view.place, MOST, columns=files)
    search = custom_ids.search(candidates.rows, filters.custom_id_sought, most=view.size_chosen)
    _record(request, filters, search)
    left_out = candidates.rows[0] if candidates.rows and not search.looked else None  # its file took all the time
    page = _onward(candidates, view, search.looked or 1)
    return {
        "page": page,
        "rows": _rows(search, now),
        "search": search,
        "custom_id": filters.custom_id_sought,
        "outcome": _too_large(left_out) if left_out else " ".join(_outcome(search, page, view)),
    }


def _rows(search: Search, now: datetime) -> list[Row]:
    found = columns().filter(pk__in=[batch.pk for batch in search.found])
    batches = {batch.pk: batch for batch in found}
    return told_live([batches[batch.pk] for batch in search.found], now=now)


def _onward(candidates: Page[Batch], view: ViewForm, looked: int) -> Page[Batch]:
    """With the cursor from which the search goes on, where there is more to look through."""
    after = candidates.after
    if looked < len(candidates.rows):
        after = keyset.cursor(candidates.rows[looked - 1], view.order)
    return Page([], candidates.count, before=None, after=after)


def _too_large(batch: Batch) -> str:
    text = _("The input file of %(id)s is too large to be looked through while you wait: it was left out.")
    return text % {"id": batch.public_id}


def _record(request: HttpRequest, filters: BatchFilters, search: Search) -> None:
    account = filters.form.cleaned_data["account"]
    audit.record(
        **audit.by(request),
        changes={},
        action="contents.viewed",
        target=f"a custom_id sought in {search.looked} batches",
        account=account.name if account else "",
    )


def _outcome(search: Search, page: Page[Batch], view: ViewForm) -> Iterator[str]:
    count = f"{page.count:,}" if page.count <= MOST_COUNTED else f"{MOST_COUNTED:,}+"
    numbers = {"looked": f"{search.looked:,}", "count": count}
    yield _looked(search, page, view) % numbers
    if not search.found:
        yield _("None of them holds a request with this custom_id.")
    if search.missing:
        yield ngettext(
            "Of %(missing)s the input file is gone.", "Of %(missing)s the input files are gone.", search.missing
        ) % {"missing": f"{search.missing:,}"}


def _looked(search: Search, page: Page[Batch], view: ViewForm) -> str:
    if view.place.key is not None:
        if page.after is None:
            return _("Looked through the last %(looked)s of %(count)s matching batches.")
        return _(
            "Looked through the next %(looked)s of %(count)s matching batches; narrow the filters to look further."
        )
    if page.after is None and search.looked == page.count:
        return ngettext(
            "Looked through the only matching batch.", "Looked through all %(count)s matching batches.", page.count
        )
    if view.is_newest_first:
        return _(
            "Looked through the newest %(looked)s of %(count)s matching batches; narrow the filters to look further."
        )
    return _("Looked through the first %(looked)s of %(count)s matching batches; narrow the filters to look further.")
