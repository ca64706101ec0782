"""Entries for tests of what is made of them."""

import itertools
from datetime import UTC, datetime
from decimal import Decimal

from django.db import transaction

from billing_app import ledger
from billing_app.models import Account, Balance, LedgerEntry, Price
from billing_app.pricing import Tokens, add

Amount = Decimal | int  # so that tests may write 10 for Decimal(10)
NOVEMBER = datetime(2026, 11, 20, 12, tzinfo=UTC)
DECEMBER = datetime(2026, 12, 5, 12, tzinfo=UTC)
MILLION = Tokens(input=1_000_000)
_numbers = itertools.count()


def use(
    account: Account,
    price: Price,
    tokens: Tokens = MILLION,
    *,
    batch_id: str = "batch_1",
    key: str = "",
    requests: int = 1,
    api_key_id: int | None = None,
    now: datetime = NOVEMBER,
) -> frozenset[str]:
    key = key or f"checkpoint:{next(_numbers)}"
    usage = ledger.Usage(key, account.pk, api_key_id, batch_id, price, requests, tokens)
    with transaction.atomic():
        return ledger.record([usage], now=now)


def top_up(account: Account, amount: str, *, key: str = "", reason: str = "paid", now: datetime = NOVEMBER) -> bool:
    key = key or f"payment:{next(_numbers)}"
    return ledger.top_up(account.pk, Decimal(amount), key=key, reason=reason, made_by="test", now=now)


def adjust(account: Account, amount: str, *, key: str = "", reason: str = "wrong", now: datetime = NOVEMBER) -> bool:
    key = key or f"correction:{next(_numbers)}"
    return ledger.adjust(account.pk, Decimal(amount), key=key, reason=reason, made_by="test", now=now)


def hold(account: Account, batch_id: str, amount: str, *, now: datetime = NOVEMBER) -> None:
    with transaction.atomic():
        ledger.place_hold(account.pk, batch_id, Decimal(amount), now=now)


def release(account: Account, batch_id: str, *, now: datetime = NOVEMBER) -> None:
    with transaction.atomic():
        ledger.release_hold(account.pk, batch_id, now=now)


def stands(account: Account) -> tuple[Amount, Amount]:
    """What is available and what is held, having made sure that the entries say the same."""
    balance = Balance.objects.get(account=account)
    entries = LedgerEntry.objects.filter(account=account)
    assert add([balance.available, balance.held]) == add(entries.values_list("amount", flat=True))
    assert balance.held == add(entries.values_list("held", flat=True))
    return balance.available, balance.held
