"""The ledger: entries are added, never changed. Each has a key that names the fact it bills, so that writing it
again (a replay, a retry) does nothing."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from django.db.models import Sum

from billing_app.models import Price, UsageEntry
from billing_app.pricing import Tokens, charge, list_amount


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


@dataclass(frozen=True, slots=True)
class Bill:
    """A batch's entries added up; amounts exact, in the price's currency (M1, M5)."""

    requests: int
    tokens: Tokens
    list_amount: Decimal
    charged: Decimal


def record(usages: Iterable[Usage], *, now: datetime) -> None:
    """Adds the entries, in the caller's transaction: a result and its charge commit together."""
    UsageEntry.objects.bulk_create(_entry(usage, now) for usage in usages)


def _entry(usage: Usage, now: datetime) -> UsageEntry:
    return UsageEntry(
        key=usage.key,
        account_id=usage.account_id,
        api_key_id=usage.api_key_id,
        batch_id=usage.batch_id,
        model_name=usage.price.model_name,
        price=usage.price,
        requests=usage.requests,
        input_tokens=usage.tokens.input,
        cached_tokens=usage.tokens.cached,
        output_tokens=usage.tokens.output,
        reasoning_tokens=usage.tokens.reasoning,
        amount=charge(usage.tokens, usage.price.rates),
        created_at=now,
    )


def bill(batch_id: str) -> Bill:
    entries = UsageEntry.objects.filter(batch_id=batch_id)
    sums = entries.aggregate(
        *(Sum(name, default=0) for name in ("requests", "input_tokens", "cached_tokens", "output_tokens")),
        reasoning_tokens__sum=Sum("reasoning_tokens", default=0),
    )
    return Bill(
        requests=sums["requests__sum"],
        tokens=Tokens(*(sums[f"{kind}_tokens__sum"] for kind in ("input", "cached", "output", "reasoning"))),
        # Added up here, not by the database: SQLite would add them as floats.
        list_amount=sum((list_amount(e.tokens, e.price.rates) for e in entries.select_related("price")), Decimal(0)),
        charged=sum(entries.values_list("amount", flat=True), Decimal(0)),
    )
