"""What an account is billed for a month. Once the month is closed, from rows that cannot change: entries, their
prices, and the balances it was closed with."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from django.conf import settings
from django.utils import timezone

from billing_app import months, totals
from billing_app.models import Account, Balance, ClosedMonth, LedgerEntry
from billing_app.pricing import Bill, Tokens, add, minus, round_money


class NoStatement(Exception):
    """The argument says what to ask for instead."""


@dataclass(frozen=True, slots=True)
class UsageLine:
    """A batch's usage in the month. Each amount is rounded once, from the exact sum (M5)."""

    batch_id: str
    model: str
    requests: int
    tokens: Tokens
    list_amount: Decimal
    charged: Decimal

    @property
    def discount(self) -> Decimal:
        """What is left between the two, so that the line adds up."""
        return add([self.list_amount, minus(self.charged)])


@dataclass(frozen=True, slots=True)
class CreditLine:
    """A top-up or an adjustment."""

    date: date
    kind: str
    batch_id: str
    reason: str
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Totals:
    """Of the rounded lines."""

    requests: int
    tokens: Tokens
    list_amount: Decimal
    discount: Decimal
    charged: Decimal
    top_ups: Decimal
    adjustments: Decimal


@dataclass(frozen=True, slots=True)
class Statement:
    # By its number: an account may be renamed, and no byte of a closed month's statement may change.
    account_id: int
    month: str
    currency: str
    closed: bool
    opening: Decimal
    usage: tuple[UsageLine, ...]
    credits: tuple[CreditLine, ...]
    closing: Decimal

    @property
    def rounding(self) -> Decimal:
        """What the lines lack, each being rounded by itself, to lead from the opening to the closing balance."""
        moved = add([*(line.amount for line in self.credits), *(minus(line.charged) for line in self.usage)])
        return add([self.closing, minus(self.opening), minus(moved)])

    @property
    def totals(self) -> Totals:
        return Totals(
            requests=sum(line.requests for line in self.usage),
            tokens=sum((line.tokens for line in self.usage), Tokens()),
            list_amount=_money(line.list_amount for line in self.usage),
            discount=_money(line.discount for line in self.usage),
            charged=_money(line.charged for line in self.usage),
            top_ups=_money(line.amount for line in self.credits if line.kind == LedgerEntry.Kind.TOP_UP),
            adjustments=_money(line.amount for line in self.credits if line.kind == LedgerEntry.Kind.ADJUSTMENT),
        )


def of(account: Account, month: str, *, now: datetime) -> Statement:
    """Raises NoStatement."""
    _check(account, month, now)
    # Before its entries are read: a month that is closed meanwhile gets no more of them.
    closed = ClosedMonth.objects.filter(account=account, month=month).first()
    entries = LedgerEntry.objects.filter(account=account, month=month)
    used = totals.usage(entries, "batch_id", "model_name")
    credits = list(entries.filter(kind__in=totals.CREDITS).order_by("pk"))
    opening = closed.opening if closed else totals.balance_before(account.pk, month)
    moved = add([*(entry.amount for entry in credits), *(minus(bill.charged) for bill in used.values())])
    return Statement(
        account_id=account.pk,
        month=month,
        currency=settings.CURRENCY,
        closed=closed is not None,
        opening=round_money(opening),
        usage=tuple(_usage_line(batch_id, model, bill) for (batch_id, model), bill in used.items()),
        credits=tuple(map(_credit_line, credits)),
        closing=round_money(closed.closing if closed else add([opening, moved])),
    )


def _check(account: Account, month: str, now: datetime) -> None:
    if not months.is_month(month):
        raise NoStatement(f"A month looks like {months.containing(now)}, not {month!r}.")
    balance = Balance.objects.filter(account=account).first()
    first, last = totals.first_month(account), months.of(balance or Balance(account=account), now)
    if not first <= month <= last:
        raise NoStatement(f"The account has statements from {first} to {last}, none for {month}.")


def _usage_line(batch_id: str, model: str, bill: Bill) -> UsageLine:
    return UsageLine(
        batch_id, model, bill.requests, bill.tokens, round_money(bill.list_amount), round_money(bill.charged)
    )


def _credit_line(entry: LedgerEntry) -> CreditLine:
    day = timezone.localdate(entry.created_at, timezone.get_default_timezone())
    return CreditLine(day, entry.kind, entry.batch_id, entry.reason, round_money(entry.amount))


def _money(amounts: Iterable[Decimal]) -> Decimal:
    return round_money(add(amounts))  # they are rounded already; this shows both places of a sum of none
