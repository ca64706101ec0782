from typing import Any

from django import forms
from django.conf import settings

from billing_app.audited import WhyMixin
from billing_app.models import Account
from billing_app.pricing import plain
from billing_app.standing import balance_of


class AccountForm(WhyMixin):
    is_prepaid = forms.BooleanField(
        label="Prepaid",
        required=False,
        help_text="Pays from its credit: a batch reserves its worst case, or is refused.",
    )

    class Meta:
        model = Account
        exclude: list[str] = []
        labels = {"max_files": "Files", "max_bytes": "Bytes", "max_active_batches": "Batches under way"}
        help_texts = {
            "max_files": "That it may keep, at most.",
            "max_bytes": "That it may keep, at most: 107374182400 are 100 GB.",
            "max_active_batches": "At most. Empty: no limit.",
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.balance = balance_of(self.instance)
        self.initial["is_prepaid"] = self.balance.is_prepaid

    def clean_is_prepaid(self) -> bool:
        wanted: bool = self.cleaned_data["is_prepaid"]
        owed = -self.balance.available
        if wanted and not self.balance.is_prepaid and owed > 0:
            raise forms.ValidationError(
                f"The account owes {plain(owed)} {settings.CURRENCY}: top it up first. "
                "A prepaid balance is never negative."
            )
        return wanted
