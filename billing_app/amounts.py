"""Amounts of money in forms and on pages. Exact where they are entered; rounded, with the exact one at hand, where
they are shown."""

from decimal import Decimal
from typing import Any

from django import forms
from django.conf import settings
from django.utils.html import format_html
from django.utils.safestring import SafeString

from billing_app.pricing import plain, round_money

# Far beyond any real amount, so that sums stay exact: the ledger refuses to round.
MOST = Decimal(10**12)
PLACES = 12


class AmountField(forms.DecimalField):
    def __init__(self, **options: Any) -> None:
        # Not type=number: a turn of the wheel over it would change the amount.
        widget = forms.TextInput(attrs={"inputmode": "decimal", "class": "amount", "autocomplete": "off"})
        bounds: dict[str, Any] = {"max_value": MOST, "min_value": 0, "decimal_places": PLACES}
        super().__init__(**(bounds | {"widget": widget} | options))

    def prepare_value(self, value: Any) -> Any:
        return plain(value) if isinstance(value, Decimal) and value.is_finite() else value


def rounded(amount: Decimal, places: int = 2) -> str:
    """Of an amount that would be shown as nothing, as many digits as it takes to see that it is something."""
    for digits in (places, 6, 12):
        rounded = round_money(amount, digits)
        if rounded or not amount:
            return f"{rounded:,f}"
    return plain(amount)


def money(amount: Decimal, places: int = 2) -> SafeString:
    shown = rounded(amount, places)
    exact = plain(amount)
    return format_html(
        '<span class="money" title="{}">{}&nbsp;<span class="unit">{}</span></span>', exact, shown, settings.CURRENCY
    )


def exact_money(amount: Decimal) -> SafeString:
    return format_html(
        '<span class="money">{}&nbsp;<span class="unit">{}</span></span>', plain(amount), settings.CURRENCY
    )
