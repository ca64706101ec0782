"""The filters of the audit log, as its address has them:

q         part of what an entry is about, or of why
actor     who, exactly
what      the kind of thing that was acted on: batch, key …
account   the name, exactly, as it was then
from, to  2026-11-20, 2026-11-20 14:30, or 24h: ago
"""

from collections.abc import Iterator
from datetime import datetime

from django import forms
from django.db.models import Q, QuerySet
from django.http import QueryDict
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from billing_app.models import AuditEntry
from config.console.filtering import MomentField, PagedFilters, moment_of, part_of
from config.console.keyset import Sort

ORDER = Sort("created_at", descending=True)
# An entry's action begins with one of them and a dot.
NOUNS: dict[str, Promise | str] = {
    "account": _("Accounts"),
    "key": _("API keys"),
    "batch": _("Batches"),
    "contents": _("Contents of tenants"),
    "adjustment": _("Corrections of balances"),
    "credit": _("Credit"),
    "file": _("Files"),
    "list": _("Lists that were exported"),
    "model": _("Models"),
    "operation": _("Operations"),
    "operator": _("Operators"),
    "price": _("Prices"),
    "group": _("Roles"),
    "rq": _("Queues"),
    "statement": _("Statements"),
}


class TrailFilters(PagedFilters):
    model, order = AuditEntry, ORDER
    q = forms.CharField(label=_("On what, or why"), required=False, max_length=200)
    actor = forms.CharField(label=_("Who"), required=False, max_length=150)
    what = forms.ChoiceField(label=_("What"), required=False, choices=[("", _("Any")), *NOUNS.items()])
    account = forms.CharField(label=_("Account"), required=False, max_length=100)

    def __init__(self, params: QueryDict) -> None:
        super().__init__(params)
        # Not declared above: `from` is no name for Python.
        self.fields["from"] = MomentField(label=_("From"), required=False)
        self.fields["to"] = MomentField(label=_("To"), required=False, whole_day=True)

    def chosen(self, *, now: datetime) -> QuerySet[AuditEntry]:
        return AuditEntry.objects.filter(*self._conditions(now))

    def _conditions(self, now: datetime) -> Iterator[Q]:
        given = self.cleaned_data
        if text := given["q"]:
            yield part_of("target", text) | part_of("reason", text)
        if noun := given["what"]:
            yield Q(action__startswith=f"{noun}.")
        for name in ("actor", "account"):
            if value := given[name]:
                yield Q(**{name: value})
        if (since := given["from"]) is not None:
            yield Q(created_at__gte=moment_of(since, now))
        if (until := given["to"]) is not None:
            yield Q(created_at__lt=moment_of(until, now))
