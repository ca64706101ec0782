"""The ledger: entries are added, never changed, and what they add up to moves with them.

Everything that moves an account's money takes the lock of its Balance first, and it is the last lock that is taken.
Each entry has a key that names the fact it books: to book it again (a replay, a second delivery) does nothing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import groupby

from django.db import transaction
from django.db.models import Sum

from billing_app import daily, months, spending
from billing_app.models import Balance, Hold, LedgerEntry, Price
from billing_app.pricing import Bill, Tokens, add, charge, list_amount, minus, plain

Kind = LedgerEntry.Kind


class NotCovered(Exception):
    """A prepaid account has not enough available. The argument is the amount that it has."""

    def __init__(self, available: Decimal) -> None:
        super().__init__(plain(available))
        self.available = available


@dataclass(frozen=True, slots=True)
class Usage:
    """What is billed by one entry. `key` names the fact (M4)."""

    key: str
    account_id: int
    api_key_id: int | None
    batch_id: str
    price: Price
    requests: int
    tokens: Tokens


def lock(account_id: int) -> Balance:
    """In the caller's transaction; no one else moves the account's money before it ends."""
    locked = Balance.objects.select_for_update(of=("self",), no_key=True).select_related("account")
    balance = locked.filter(account=account_id).first()
    if balance is None:
        Balance.objects.bulk_create([Balance(account_id=account_id)], ignore_conflicts=True)
        balance = locked.get(account=account_id)
    return balance


def record(usages: Iterable[Usage], *, now: datetime) -> frozenset[str]:
    """Books usage, in the caller's transaction: a result and its charge commit together.

    Returns the batches of prepaid accounts whose charge went beyond hold and credit. They are billed in full all the
    same, for the result is there; what is not covered is written off by an adjustment, so that the balance does not
    go below zero. The caller has to stop them.
    """
    by_account = sorted(usages, key=lambda usage: usage.account_id)
    # In the order of accounts, as everybody does: two lanes with the same two accounts would deadlock otherwise.
    groups = groupby(by_account, key=lambda usage: usage.account_id)
    return frozenset().union(*(_record(account_id, list(group), now) for account_id, group in groups))


def _record(account_id: int, usages: Sequence[Usage], now: datetime) -> set[str]:
    balance = lock(account_id)
    unbooked = _unbooked([usage.key for usage in usages])
    new = [usage for usage in usages if usage.key in unbooked]
    uncovered = set()
    for usage in new:
        cost = charge(usage.tokens, usage.price.rates)
        _post(balance, _usage_entry(usage, cost, _settle(balance, usage.batch_id, cost), now))
        spending.note(balance.account, usage.api_key_id, months.of(balance, now), cost, now=now)
        if balance.is_prepaid and balance.available < 0:
            uncovered.add(usage.batch_id)
            _write_off(balance, usage, now)
    _note_daily(account_id, new, now)
    _save(balance)
    return uncovered


def _note_daily(account_id: int, usages: Sequence[Usage], now: datetime) -> None:
    """A row is moved once for all entries of a flush that belong to it."""
    sums: dict[Price, tuple[int, Tokens]] = {}
    for usage in usages:
        requests, tokens = sums.get(usage.price, (0, Tokens()))
        sums[usage.price] = (requests + usage.requests, tokens + usage.tokens)
    for price, (requests, tokens) in sums.items():
        daily.note(account_id, price, requests, tokens, now=now)


def _settle(balance: Balance, batch_id: str, cost: Decimal) -> Decimal:
    """Takes as much of the cost as there is from the batch's hold."""
    hold = Hold.objects.filter(batch_id=batch_id, released_at=None).first() if balance.held else None
    if hold is None:
        return Decimal(0)
    settled: Decimal = min(cost, hold.left)
    Hold.objects.filter(pk=hold.pk).update(left=add([hold.left, minus(settled)]))
    return settled


def _write_off(balance: Balance, usage: Usage, now: datetime) -> None:
    entry = LedgerEntry(
        key=f"{usage.key}:uncovered",
        account_id=usage.account_id,
        kind=Kind.ADJUSTMENT,
        amount=minus(balance.available),
        batch_id=usage.batch_id,
        reason="Written off: the batch used more than its hold and the account's credit.",
        made_by="batchdesk",
        month=months.of(balance, now),
        created_at=now,
    )
    _post(balance, entry)


def _usage_entry(usage: Usage, cost: Decimal, settled: Decimal, now: datetime) -> LedgerEntry:
    return LedgerEntry(
        key=usage.key,
        account_id=usage.account_id,
        kind=Kind.USAGE,
        amount=minus(cost),
        held=minus(settled),
        batch_id=usage.batch_id,
        api_key_id=usage.api_key_id,
        model_name=usage.price.model_name,
        price=usage.price,
        requests=usage.requests,
        input_tokens=usage.tokens.input,
        cached_tokens=usage.tokens.cached,
        output_tokens=usage.tokens.output,
        reasoning_tokens=usage.tokens.reasoning,
        created_at=now,
    )


@transaction.atomic
def top_up(account_id: int, amount: Decimal, *, key: str, reason: str, made_by: str, now: datetime) -> bool:
    """Adds credit. False: it was booked before."""
    return _book(account_id, Kind.TOP_UP, amount, key=key, reason=reason, made_by=made_by, now=now)


@transaction.atomic
def adjust(account_id: int, amount: Decimal, *, key: str, reason: str, made_by: str, now: datetime) -> bool:
    """A signed correction. False: it was booked before. Raises NotCovered where it takes more than is available."""
    return _book(account_id, Kind.ADJUSTMENT, amount, key=key, reason=reason, made_by=made_by, now=now)


def _book(account_id: int, kind: Kind, amount: Decimal, *, key: str, reason: str, made_by: str, now: datetime) -> bool:
    balance = lock(account_id)
    if not _unbooked([key]):
        return False
    if balance.is_prepaid and add([balance.available, amount]) < 0:
        raise NotCovered(balance.available)
    entry = LedgerEntry(key=key, account_id=account_id, kind=kind, amount=amount, reason=reason, made_by=made_by)
    entry.created_at = now
    _post(balance, entry)
    _save(balance)
    return True


def place_hold(account_id: int, batch_id: str, amount: Decimal, *, now: datetime) -> None:
    """Reserves a batch's worst case, if the account is prepaid, in the caller's transaction. Raises NotCovered."""
    balance = lock(account_id)
    if not balance.is_prepaid or Hold.objects.filter(batch_id=batch_id).exists():
        return
    if balance.available < amount:
        raise NotCovered(balance.available)
    Hold.objects.create(batch_id=batch_id, account_id=account_id, placed=amount, left=amount, created_at=now)
    _post(balance, _hold_entry(Kind.HOLD_PLACED, account_id, batch_id, amount, now))
    _save(balance)


def release_hold(account_id: int, batch_id: str, *, now: datetime) -> None:
    """Gives back what the batch did not use, in the caller's transaction."""
    if not Hold.objects.filter(batch_id=batch_id, released_at=None).exists():
        return
    balance = lock(account_id)
    # Read once more, under the lock: a charge may have settled some of it meanwhile, or another have released it.
    hold = Hold.objects.filter(batch_id=batch_id, released_at=None).first()
    if hold is None:
        return
    Hold.objects.filter(pk=hold.pk).update(left=Decimal(0), released_at=now)
    _post(balance, _hold_entry(Kind.HOLD_RELEASED, account_id, batch_id, minus(hold.left), now))
    _save(balance)


def _hold_entry(kind: Kind, account_id: int, batch_id: str, held: Decimal, now: datetime) -> LedgerEntry:
    key = f"{kind}:{batch_id}"
    return LedgerEntry(
        key=key, account_id=account_id, kind=kind, amount=Decimal(0), held=held, batch_id=batch_id, created_at=now
    )


@transaction.atomic
def set_prepaid(account_id: int, prepaid: bool) -> None:
    """Raises NotCovered where the account owes: it has to be topped up first."""
    balance = lock(account_id)
    if prepaid and balance.available < 0:
        raise NotCovered(balance.available)
    balance.is_prepaid = prepaid
    _save(balance)


def _unbooked(keys: Sequence[str]) -> set[str]:
    return set(keys) - set(LedgerEntry.objects.filter(key__in=keys).values_list("key", flat=True))


def _post(balance: Balance, entry: LedgerEntry) -> None:
    """The only writer of entries. The balance moves with them, and is saved by who took its lock."""
    entry.month = months.of(balance, entry.created_at)
    entry.save(force_insert=True)
    balance.available = add([balance.available, entry.amount, minus(entry.held)])
    balance.held = add([balance.held, entry.held])


def _save(balance: Balance) -> None:
    balance.save(update_fields=["is_prepaid", "available", "held"])


def bill(batch_id: str) -> Bill:
    """A batch's."""
    entries = LedgerEntry.objects.filter(batch_id=batch_id, kind=Kind.USAGE)
    sums = entries.aggregate(
        *(Sum(name, default=0) for name in ("requests", "input_tokens", "cached_tokens", "output_tokens")),
        reasoning_tokens__sum=Sum("reasoning_tokens", default=0),
    )
    return Bill(
        requests=sums["requests__sum"],
        tokens=Tokens(*(sums[f"{kind}_tokens__sum"] for kind in ("input", "cached", "output", "reasoning"))),
        # Added up here, not by the database: SQLite would add them as floats.
        list_amount=add(list_amount(e.tokens, e.price.rates) for e in entries.select_related("price") if e.price),
        charged=minus(add(entries.values_list("amount", flat=True))),
    )
