"""Which version of a model's price applies."""

from datetime import datetime

from billing_app.models import Price
from billing_app.pricing import Rates


def current(model_name: str, at: datetime) -> Price | None:
    """M1: the price as it stood at that moment."""
    return (
        Price.objects.filter(model_name=model_name, effective_from__lte=at).order_by("-effective_from", "-id").first()
    )


def set_price(model_name: str, rates: Rates, now: datetime) -> tuple[Price, bool]:
    """A new version from now on, unless it would equal the current one. True: it is new."""
    price = current(model_name, at=now)
    if price is not None and price.rates == rates:
        return price, False
    return Price.objects.create(
        model_name=model_name,
        input_price=rates.input,
        output_price=rates.output,
        batch_discount=rates.batch_discount,
        cached_input_price=rates.cached_input,
        currency=rates.currency,
        effective_from=now,
    ), True
