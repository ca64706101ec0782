"""Top-ups and adjustments: pages of an account's, for the ledger itself is only read."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone

from billing_app import audit, ledger
from billing_app.amounts import MOST, AmountField
from billing_app.models import Account
from billing_app.pricing import plain
from billing_app.standing import balance_of


@dataclass(frozen=True, slots=True)
class Move:
    kind: str
    permission: str
    action: str
    title: str
    help: str
    book: Callable[..., bool]
    least: Decimal


CREDIT = Move(
    kind="credit",
    permission="billing_app.add_credit",
    action="credit.added",
    title="Add credit",
    help="Raises what the account may spend. On the statement it is a top-up.",
    book=ledger.top_up,
    least=Decimal(0),
)
ADJUST = Move(
    kind="adjustment",
    permission="billing_app.make_adjustment",
    action="adjustment.made",
    title="Adjust the balance",
    help="Corrects the balance: 5 gives, -5 takes. An entry is never changed; another one can undo it.",
    book=ledger.adjust,
    least=-MOST,
)


class MoveForm(forms.Form):
    amount = AmountField()
    reason = forms.CharField(
        label="Why",
        max_length=500,
        widget=forms.TextInput(attrs={"class": "vLargeTextField"}),
        help_text="Is on the statement and in the audit trail.",
    )
    # Made with the page, so that sending it twice books once.
    once = forms.UUIDField(widget=forms.HiddenInput)

    def __init__(self, move: Move, data: Any = None) -> None:
        super().__init__(data, initial={"once": uuid.uuid4()})
        self.fields["amount"] = AmountField(
            label=f"Amount ({settings.CURRENCY})", min_value=move.least, help_text=move.help
        )

    def clean_amount(self) -> Decimal:
        amount: Decimal = self.cleaned_data["amount"]
        if not amount:
            raise forms.ValidationError("An amount of 0 moves nothing.")
        return amount


class CreditPage:
    def __init__(self, model_admin: Any, move: Move) -> None:
        self.model_admin, self.move = model_admin, move

    def __call__(self, request: HttpRequest, pk: int) -> HttpResponse:
        if not request.user.has_perm(self.move.permission):
            raise PermissionDenied
        account = get_object_or_404(Account.objects.select_related("balance"), pk=pk)
        form = MoveForm(self.move, request.POST if request.method == "POST" else None)
        if request.method == "POST" and form.is_valid() and self._book(request, account, form):
            return HttpResponseRedirect(reverse("admin:billing_app_account_change", args=[pk]))
        return self._ask(request, account, form)

    def _book(self, request: HttpRequest, account: Account, form: MoveForm) -> bool:
        try:
            booked = self._move(request, account, form.cleaned_data)
        except ledger.NotCovered as error:
            form.add_error(
                "amount", f"The account is prepaid, and only {error} {settings.CURRENCY} is available to take."
            )
            return False
        said = f"{plain(form.cleaned_data['amount'])} {settings.CURRENCY} booked."
        again = "This was booked already. Nothing was booked twice."
        messages.add_message(request, messages.SUCCESS if booked else messages.WARNING, said if booked else again)
        return True

    @transaction.atomic
    def _move(self, request: HttpRequest, account: Account, given: dict[str, Any]) -> bool:
        reason, amount, who = given["reason"].strip(), given["amount"], audit.by(request)
        before = ledger.lock(account.pk).available
        key, now = f"{self.move.kind}:{given['once']}", timezone.now()
        if not self.move.book(account.pk, amount, key=key, reason=reason, made_by=who["actor"], now=now):
            return False
        changes = {"amount": (None, amount), "available": (before, ledger.lock(account.pk).available)}
        audit.record(
            **who, action=self.move.action, target=account, account=account.name, changes=changes, reason=reason
        )
        return True

    def _ask(self, request: HttpRequest, account: Account, form: MoveForm) -> HttpResponse:
        context = {
            **self.model_admin.admin_site.each_context(request),
            "title": self.move.title,
            "subtitle": account.name,
            "opts": Account._meta,
            "account": account,
            "balance": balance_of(account),
            "form": form,
        }
        return TemplateResponse(request, "admin/billing_app/account/credit.html", context)
