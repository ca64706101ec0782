"""Where accounts stand, at a glance: what they spent, keep and have left. For pages; nothing is decided by it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from django.db.models import BigIntegerField, Count, F, OuterRef, Prefetch, Q, QuerySet, Subquery
from django.db.models.functions import Cast, Coalesce

from billing_app import months, totals
from billing_app.models import Account, APIKey, Balance, Hold, MonthlySpend, StorageUse
from billing_app.pricing import add

SHOWN_MONTHS = 12


def with_standing(accounts: QuerySet[Account], now: datetime) -> QuerySet[Account]:
    """Two queries for a page of them, however many there are."""
    spends = MonthlySpend.objects.filter(month=months.containing(now))
    valid = Q(revoked_at=None) & (Q(expires_at=None) | Q(expires_at__gt=now))
    keys = APIKey.objects.filter(valid, account=OuterRef("pk")).order_by().values("account")
    return (
        accounts.select_related("balance", "storage_use")
        .prefetch_related(Prefetch("monthly_spends", spends, to_attr="spends_now"))
        # Not a join that is grouped: that would lose the order of the accounts.
        .annotate(active_keys=Coalesce(Subquery(keys.annotate(count=Count("pk")).values("count")), 0))
    )


def above(percent: int) -> Q:
    """Accounts that use so much of their files or bytes."""
    return _share("files", "max_files", percent) | _share("bytes", "max_bytes", percent)


def _share(used: str, limit: str, percent: int) -> Q:
    # As big integers: PostgreSQL's int4 would overflow on the product.
    product = Cast(F(limit), BigIntegerField()) * percent
    return Q(**{f"storage_use__{used}__gte": product / 100}) & Q(storage_use__isnull=False)


def balance_of(account: Account) -> Balance:
    """Not saved where there is none yet: an account that never had money has nothing."""
    return getattr(account, "balance", None) or Balance(account=account, available=Decimal(0), held=Decimal(0))


def storage_of(account: Account) -> StorageUse:
    return getattr(account, "storage_use", None) or StorageUse(account=account)


def spent(account: Account) -> Decimal:
    """This month, of an account that comes `with_standing`."""
    return add(row.amount for row in account.spends_now)  # type: ignore[attr-defined]  # the prefetch's


def spent_by_all(now: datetime) -> Decimal:
    return add(MonthlySpend.objects.filter(month=months.containing(now)).values_list("amount", flat=True))


@dataclass(frozen=True, slots=True)
class KeySpend:
    key: APIKey | None  # none: it was deleted, or the batch had none
    amount: Decimal


def spent_by_key(account: Account, now: datetime) -> list[KeySpend]:
    rows = MonthlySpend.objects.filter(account=account, month=months.containing(now)).order_by("api_key_id")
    spends = dict(rows.values_list("api_key_id", "amount"))
    keys = APIKey.objects.in_bulk(spends)
    return sorted(
        (KeySpend(keys.get(key), amount) for key, amount in spends.items()), key=lambda row: row.amount, reverse=True
    )


def open_holds() -> QuerySet[Hold]:
    return Hold.objects.filter(released_at=None)


def statement_months(account: Account, now: datetime) -> Sequence[str]:
    """The newest first."""
    month, first = months.of(balance_of(account), now), totals.first_month(account)
    found: list[str] = []
    while month >= first and len(found) < SHOWN_MONTHS:
        found.append(month)
        month = months.before(month)
    return found
