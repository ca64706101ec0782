"""The filters of the list of files, as its address has them:

q                         a file's id or its beginning, or part of its filename
account                   the name, exactly
purpose                   batch, batch_output
state                     kept; deleted: by its tenant or an operator, with bytes that something still needs
created_from, created_to  2026-11-20, 2026-11-20 14:30, or 24h: ago
"""

from collections.abc import Iterator
from datetime import datetime

from django import forms
from django.db.models import Q, QuerySet
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from billing_app.console.fields import AccountField
from config.console.filtering import MomentField, PagedFilters, moment_of, part_of
from config.console.keyset import Sort
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


class FileFilters(PagedFilters):
    model, order = StoredFile, ORDER
    q = forms.CharField(label=_("Search"), required=False, max_length=200)
    account = AccountField(label=_("Account"), required=False)
    purpose = forms.ChoiceField(label=_("Purpose"), required=False, choices=[("", _("Any")), *PURPOSES.items()])
    state = forms.ChoiceField(label=_("State"), required=False, choices=[("", _("Any")), *STATES.items()])
    created_from = MomentField(label=_("Created from"), required=False)
    created_to = MomentField(label=_("Created to"), required=False, whole_day=True)

    def chosen(self, *, now: datetime) -> QuerySet[StoredFile]:
        # Not joined: SQLite would go through the accounts, and read every file of each.
        return StoredFile.objects.filter(*self._conditions(now)).prefetch_related("account")

    def _conditions(self, now: datetime) -> Iterator[Q]:
        given = self.cleaned_data
        if text := given["q"]:
            # Only what can be: a condition that never holds makes databases look at more rows.
            by_id = Q(public_id__startswith=text) if text.startswith("file-") else Q()
            yield by_id | part_of("filename", text)
        for name in ("account", "purpose"):
            if value := given[name]:
                yield Q(**{name: value})
        if state := given["state"]:
            yield Q(deleted_at__isnull=state == "kept")
        if (since := given["created_from"]) is not None:
            yield Q(created_at__gte=moment_of(since, now))
        if (until := given["created_to"]) is not None:
            yield Q(created_at__lt=moment_of(until, now))
