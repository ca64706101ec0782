"""The list of accounts: where each stands against its quotas and its money."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django import forms
from django.db.models import Count, Max, QuerySet
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from batches_app import attention
from batches_app.attention import Kind
from batches_app.models import Batch
from batches_app.states import TERMINAL
from billing_app import standing
from billing_app.models import Account, APIKey, Balance, StorageUse
from config.console import keyset
from config.console.access import page
from config.console.filtering import PagedFilters, first_page, problems_of, without_blanks
from config.console.keyset import MOST_COUNTED, Sort

SIZE = 50
NEAR = 80  # per cent
BY_NAME = Sort("name", descending=False)
STATES = {
    "enabled": _("Enabled"),
    "disabled": _("Disabled"),
    "near": _("At 80 % or more of a quota"),
}
MONEY = "billing_app.view_ledgerentry"
STATES_OF_MONEY = {
    Kind.OUT_OF_CREDIT: _("In use, and out of credit"),
    Kind.BUDGET_USED_UP: _("Budget used up"),
}


class Filters(PagedFilters):
    model, order = Account, BY_NAME
    q = forms.CharField(label=_("Part of the name"), required=False, max_length=100)
    state = forms.ChoiceField(label=_("State"), required=False, choices=[("", _("Any")), *STATES.items()])

    def __init__(self, *args: Any, money: bool = False, **options: Any) -> None:
        super().__init__(*args, **options)
        if money:
            self.fields["state"].choices += STATES_OF_MONEY.items()  # type: ignore[attr-defined]  # a ChoiceField

    def chosen(self) -> QuerySet[Account]:
        accounts, given = Account.objects.all(), self.cleaned_data
        if given["q"]:
            accounts = accounts.filter(name__icontains=given["q"])
        if given["state"] == "near":
            return accounts.filter(standing.above(NEAR))
        if given["state"] in attention.ACCOUNTS:
            return accounts.filter(pk__in=attention.ACCOUNTS[given["state"]](timezone.now()))
        return accounts.filter(is_enabled=given["state"] == "enabled") if given["state"] else accounts


@dataclass(frozen=True, slots=True)
class Row:
    account: Account
    balance: Balance
    storage: StorageUse
    spent: Decimal  # this month
    valid_keys: int
    active: int  # batches that have not ended
    last_used: datetime | None  # any of its keys

    @property
    def is_over_budget(self) -> bool:
        return self.account.monthly_budget is not None and self.spent >= self.account.monthly_budget

    @property
    def has_no_credit(self) -> bool:
        return self.balance.is_prepaid and self.balance.available <= 0


@page("billing_app.view_account")
def accounts(request: HttpRequest) -> HttpResponse:
    form = Filters(request.GET, money=request.user.has_perm(MONEY))
    if any("" in request.GET.getlist(name) for name in form.fields):
        return redirect(_address(without_blanks(request.GET, form.fields)))
    if problems := problems_of(form):
        return render(request, "console/accounts.html", {"form": form, "problems": problems}, status=400)
    columns = standing.with_standing(Account.objects.all(), timezone.now())
    found = keyset.page(form.chosen(), BY_NAME, form.place, SIZE, columns=columns)
    if form.place.backwards and found.before is None and len(found.rows) < SIZE:
        return redirect(_address(first_page(request.GET)))  # a whole first page, not the part that is before a row
    context = {
        "form": form,
        "page": found,
        "rows": rows(found.rows),
        "count": min(found.count, MOST_COUNTED),
        "has_more": found.count > MOST_COUNTED,
        "is_filtered": any(form.cleaned_data[name] for name in ("q", "state")),
    }
    return render(request, "console/accounts.html", context)


def _address(params: QueryDict) -> str:
    query = params.urlencode()
    return reverse("console:accounts") + (f"?{query}" if query else "")


def rows(accounts: Sequence[Account]) -> list[Row]:
    """Of accounts that come `with_standing`."""
    alive = Batch.objects.filter(account__in=accounts).exclude(status__in=sorted(TERMINAL)).order_by()
    active = dict(alive.values_list("account").annotate(Count("pk")))
    keys = APIKey.objects.filter(account__in=accounts).order_by()
    used = dict(keys.values_list("account").annotate(Max("last_used_at")))
    return [row(account, active.get(account.pk, 0), used.get(account.pk)) for account in accounts]


def row(account: Account, active: int, last_used: datetime | None) -> Row:
    return Row(
        account,
        standing.balance_of(account),
        standing.storage_of(account),
        standing.spent(account),
        account.active_keys,  # type: ignore[attr-defined]  # with_standing's
        active,
        last_used,
    )
