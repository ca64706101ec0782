"""A file with the batches that have to do with it, and what deleting it does."""

from dataclasses import dataclass
from typing import Any

from django import forms
from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from batches_app.models import Batch
from billing_app import audit
from config.console.access import page
from config.console.keyset import MOST_COUNTED
from files_app import retention
from files_app.console.files import find, made_by
from files_app.models import FileHold, StoredFile

SHOWN = 20  # batches on the page of a file that all of them used


class DeleteForm(forms.Form):
    reason = forms.CharField(label=gettext_lazy("Why"), max_length=500)


@dataclass(frozen=True, slots=True)
class Use:
    """`count`: of batches, more than MOST_COUNTED: nobody knows. `batches`: the newest of them. `holders`: how many of
    all need its bytes now."""

    count: int
    holders: int
    batches: list[Batch]


@page("files_app.view_storedfile")
def file(request: HttpRequest, public_id: str) -> HttpResponse:
    return render(request, "console/file.html", _told(find(public_id)))


@page("files_app.view_storedfile", "files_app.delete_storedfile", methods=["GET", "HEAD", "POST"])
def delete_file(request: HttpRequest, public_id: str) -> HttpResponse:
    found = find(public_id)
    form = DeleteForm(request.POST if request.method == "POST" else None)
    if found.deleted_at is not None:
        messages.info(request, _("%(file)s was deleted before.") % {"file": found.public_id})
        return redirect("console:file", found.public_id)
    if not form.is_valid():
        status = 400 if form.is_bound else 200
        return render(request, "console/delete_file.html", _told(found) | {"form": form}, status=status)
    return _delete(request, found, form.cleaned_data["reason"])


def _delete(request: HttpRequest, found: StoredFile, reason: str) -> HttpResponse:
    now = timezone.now()
    with transaction.atomic():
        if deleted := retention.delete_file(found, now=now):
            changes = {"deleted_at": (None, now), "filename": (found.filename, None), "bytes": (found.bytes, None)}
            account = found.account.name
            audit.record(
                **audit.by(request),
                action="file.deleted",
                target=found,
                account=account,
                changes=changes,
                reason=reason,
            )
    said = _("%(file)s is deleted.") if deleted else _("%(file)s was deleted before.")
    messages.success(request, said % {"file": found.public_id})
    if StoredFile.objects.filter(pk=found.pk).exists():
        return redirect("console:file", found.public_id)
    return redirect("console:files")


def _told(file: StoredFile) -> dict[str, Any]:
    use = _use_of(file)
    return {
        "file": file,
        "use": use,
        "made_by": made_by(file),
        "has_more": use.count > MOST_COUNTED,
        "most_counted": MOST_COUNTED,
    }


def _use_of(file: StoredFile) -> Use:
    if maker := made_by(file):
        batches = Batch.objects.filter(public_id=maker)
    else:
        batches = Batch.objects.filter(input_file_id=file.public_id, account=file.account_id)
    count = batches.order_by()[: MOST_COUNTED + 1].count()
    shown = batches.defer("errors", "metadata").order_by("-pk")[:SHOWN]
    return Use(count, FileHold.objects.filter(file=file).count(), list(shown))
