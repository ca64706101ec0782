"""Which version of a model's price applies."""

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from functools import lru_cache

from django.conf import settings

from billing_app.models import Price
from billing_app.pricing import Rates

# Far beyond any real price, so that amounts stay exact: the ledger refuses to round.
MOST, PLACES = Decimal(1_000_000), 12


def fault(number: Decimal, *, most: Decimal | int = MOST) -> str | None:
    """What is wrong with it as a price, or as a discount with `most=1`; None if nothing is."""
    if not number.is_finite() or number < 0:
        return "must be 0 or more"
    if number > MOST or number != round(number, PLACES):
        return f"has at most {PLACES} decimal places and is at most {MOST}"
    return f"must be between 0 and {most}" if number > most else None


def current(model_name: str, at: datetime) -> Price | None:
    """M1: the price as it stood at that moment, in the installation's currency."""
    versions = Price.objects.filter(model_name=model_name, currency=settings.CURRENCY, effective_from__lte=at)
    return versions.order_by("-effective_from", "-id").first()


def in_force(model_names: Iterable[str], at: datetime) -> dict[str, Price]:
    """The current price of each of the models that has one."""
    versions = Price.objects.filter(
        model_name__in=list(model_names), currency=settings.CURRENCY, effective_from__lte=at
    )
    return {price.model_name: price for price in versions.order_by("effective_from", "id")}  # the last one stays


@lru_cache(maxsize=10_000)
def rates(price_id: int) -> Rates:
    """Remembered for good, for a price never changes."""
    return Price.objects.get(pk=price_id).rates


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
