"""What tokens cost. Exact: amounts are rounded only where money is shown (M5)."""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Context, Decimal, DivisionByZero, Inexact, InvalidOperation, Overflow
from functools import reduce

# Decimal's default context rounds to 28 digits without a word. This one has room, and raises rather than round.
_EXACT = Context(prec=200, traps=[Inexact, InvalidOperation, DivisionByZero, Overflow])
_ROUNDING = Context(prec=200, rounding=ROUND_HALF_UP, traps=[InvalidOperation, DivisionByZero, Overflow])
_PER_MILLION = Decimal(-6)  # as a power of ten


@dataclass(frozen=True, slots=True)
class Tokens:
    """`cached` is a part of `input`, `reasoning` a part of `output`."""

    input: int = 0
    cached: int = 0
    output: int = 0
    reasoning: int = 0

    @property
    def total(self) -> int:
        return self.input + self.output

    def __add__(self, other: "Tokens") -> "Tokens":
        return Tokens(
            self.input + other.input,
            self.cached + other.cached,
            self.output + other.output,
            self.reasoning + other.reasoning,
        )


@dataclass(frozen=True, slots=True)
class Rates:
    """Prices per million tokens; a batch pays `batch_discount` times the real-time price. `cached_input` is the price
    of input tokens that the upstream had in its cache: the input price, unless it is set."""

    input: Decimal
    output: Decimal
    batch_discount: Decimal
    currency: str = "USD"
    cached_input: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Bill:
    """Usage and what it costs, added up; amounts exact, in the prices' currency (M1, M5)."""

    requests: int
    tokens: Tokens
    list_amount: Decimal
    charged: Decimal

    def __add__(self, other: "Bill") -> "Bill":
        return Bill(
            self.requests + other.requests,
            self.tokens + other.tokens,
            add([self.list_amount, other.list_amount]),
            add([self.charged, other.charged]),
        )


NOTHING = Bill(0, Tokens(), Decimal(0), Decimal(0))


def list_amount(tokens: Tokens, rates: Rates) -> Decimal:
    """The real-time price of `tokens`, unrounded (M5). Raises decimal.Inexact beyond 200 digits."""
    amount = _EXACT.multiply(rates.output, tokens.output)
    if rates.cached_input is None:
        amount = _EXACT.add(amount, _EXACT.multiply(rates.input, tokens.input))
    else:
        amount = _EXACT.add(amount, _EXACT.multiply(rates.input, tokens.input - tokens.cached))
        amount = _EXACT.add(amount, _EXACT.multiply(rates.cached_input, tokens.cached))
    return _EXACT.scaleb(amount, _PER_MILLION)


def charge(tokens: Tokens, rates: Rates) -> Decimal:
    """What a batch pays for `tokens`: the real-time price times the discount, unrounded (M1, M5)."""
    return _EXACT.multiply(list_amount(tokens, rates), rates.batch_discount)


def most_charge(tokens: Tokens, rates: Rates) -> Decimal:
    """What a batch may pay for `tokens`, however many of the input the upstream has in its cache."""
    all_cached = Tokens(tokens.input, tokens.input, tokens.output)
    return max(charge(tokens, rates), charge(all_cached, rates))


def add(amounts: Iterable[Decimal]) -> Decimal:
    """Their sum, unrounded: Python's own `sum` rounds to 28 digits."""
    return reduce(_EXACT.add, amounts, Decimal(0))


def share(amount: Decimal, percent: int) -> Decimal:
    return _EXACT.multiply(amount, Decimal(percent).scaleb(-2))


def minus(amount: Decimal) -> Decimal:
    """A mere minus sign rounds to 28 digits too."""
    return _EXACT.minus(amount)


def plain(amount: Decimal) -> str:
    """All its digits and no other: no exponent, no zeros at the end, no minus before zero."""
    text = format(amount, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in ("", "-", "-0") else text


def round_money(amount: Decimal, places: int = 2) -> Decimal:
    """Half up, and a credit like a debit: -0.005 becomes -0.01. Adding 0 makes 0.00 of -0.00."""
    return _EXACT.add(amount.quantize(Decimal(1).scaleb(-places), context=_ROUNDING), Decimal(0))
