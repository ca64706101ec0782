"""What tokens cost, exactly."""

from decimal import Decimal, Inexact
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing_app.pricing import Rates, Tokens, charge, list_amount, round_money

counts = st.integers(0, 10**15)
tokens = st.builds(Tokens, counts, counts, counts, counts)
prices = st.decimals(0, 10**6, places=12)
discounts = st.decimals(0, 1, places=6)
rates = st.builds(Rates, prices, prices, discounts)


def test_a_batch_pays_half_the_price_of_input_and_output() -> None:
    """M1: (input x input price + output x output price) x 0.5, per million."""
    paid = charge(Tokens(input=1_000_000, output=500_000), Rates(Decimal("0.30"), Decimal("1.20"), Decimal("0.5")))
    assert paid == Decimal("0.45")


def test_cached_and_reasoning_tokens_are_parts_that_cost_nothing_more() -> None:
    """M1: the price is that of the input and output tokens."""
    price = Rates(Decimal(3), Decimal(7), Decimal("0.5"))
    assert charge(Tokens(10, 4, 20, 9), price) == charge(Tokens(input=10, output=20), price)


def test_cached_input_may_have_a_price_of_its_own() -> None:
    """M1: of 10 input tokens 4 were in the upstream's cache."""
    price = Rates(Decimal(30), Decimal(70), Decimal("0.5"), cached_input=Decimal(3))
    assert charge(Tokens(10, 4, 20), price) == Decimal(6 * 30 + 4 * 3 + 20 * 70) / 2 / 1_000_000
    free = Rates(Decimal(30), Decimal(70), Decimal("0.5"), cached_input=Decimal(0))
    assert charge(Tokens(10, 4, 20), free) == Decimal(6 * 30 + 20 * 70) / 2 / 1_000_000


@given(tokens, rates)
def test_a_charge_is_the_exact_fraction(tokens: Tokens, rates: Rates) -> None:
    """M5: never rounded."""
    exact = (tokens.input * Fraction(rates.input) + tokens.output * Fraction(rates.output)) / 10**6
    assert Fraction(list_amount(tokens, rates)) == exact
    assert Fraction(charge(tokens, rates)) == exact * Fraction(rates.batch_discount)


@given(tokens, tokens, rates)
def test_charges_add_up(one: Tokens, other: Tokens, rates: Rates) -> None:
    """M4: it does not matter in how many checkpoints the tokens arrived."""
    parts = Fraction(charge(one, rates)) + Fraction(charge(other, rates))
    assert Fraction(charge(one + other, rates)) == parts


@given(tokens, prices, prices)
def test_twice_the_half_is_the_list_price(tokens: Tokens, input_price: Decimal, output_price: Decimal) -> None:
    """M1: half means half, to the last digit."""
    half = Rates(input_price, output_price, Decimal("0.5"))
    assert Fraction(charge(tokens, half)) * 2 == Fraction(list_amount(tokens, half))


def test_a_price_too_fine_to_be_exact_raises() -> None:
    """M5: rather no amount than a rounded one."""
    with pytest.raises(Inexact):
        charge(Tokens(input=10**150 + 1), Rates(Decimal(10**100 + 1), Decimal(0), Decimal("0.5")))


@given(tokens, tokens)
def test_tokens_add_up_member_by_member(one: Tokens, other: Tokens) -> None:
    """M4: sums of usage are to the token."""
    both = one + other
    assert (both.input, both.cached) == (one.input + other.input, one.cached + other.cached)
    assert (both.output, both.reasoning) == (one.output + other.output, one.reasoning + other.reasoning)
    assert both.total == one.total + other.total == both.input + both.output


@pytest.mark.parametrize(
    ("amount", "places", "shown"),
    [
        ("2.675", 2, "2.68"),
        ("2.665", 2, "2.67"),
        ("2.664999", 2, "2.66"),
        ("-0.005", 2, "-0.01"),
        ("1234.5", 0, "1235"),
    ],
)
def test_money_is_rounded_half_up(amount: str, places: int, shown: str) -> None:
    """M5: rounded once, where it is shown."""
    assert str(round_money(Decimal(amount), places)) == shown
