"""What accounts are allowed, set in view of what they used: some are near their limits, and some beyond."""

from datetime import datetime
from decimal import Decimal
from random import Random

from batches_app.seeding.cast import Cast, Tenant
from billing_app import closing, ledger, months, spending
from billing_app.models import MonthlySpend, StorageUse
from billing_app.pricing import add, round_money

BUDGETS = (None, None, Decimal("0.9"), Decimal("1.15"), Decimal("1.6"), Decimal(3))  # of what was spent this month
ROOM = (1.04, 1.2, 2, 4)
SHORT_OF_CREDIT = 3  # the account whose prepaid credit is all but used up


def settle(cast: Cast, rng: Random, *, now: datetime) -> None:
    for number, tenant in enumerate(cast.tenants):
        if number % 5 == SHORT_OF_CREDIT:
            _prepay(tenant, Decimal(3) if number == SHORT_OF_CREDIT else Decimal(rng.randint(400, 4000)), now)
        else:
            _set_budget(tenant, rng, now)
        _set_room(tenant, rng)
    last = cast.tenants[-1].account
    last.is_enabled = len(cast.tenants) == 1
    last.save(update_fields=["is_enabled"])
    closing.close_due(now)


def _prepay(tenant: Tenant, credit: Decimal, now: datetime) -> None:
    """Paid in advance, at the beginning of each month what was then used up in it."""
    account = tenant.account
    spent = dict[str, Decimal]()
    for month, amount in MonthlySpend.objects.filter(account=account).values_list("month", "amount"):
        spent[month] = add((spent.get(month, Decimal(0)), amount))
    for month in sorted(spent):
        amount = round_money(spent[month], 0) + 1 + (credit if month == max(spent) else 0)
        paid_at = min(now, max(account.created_at, months.beginning(month)))
        ledger.top_up(
            account.pk,
            amount,
            key=f"invoice:{account.pk}:{month}",
            reason=f"Invoice {month}",
            made_by="bill",
            now=paid_at,
        )
    if spent:
        ledger.set_prepaid(account.pk, True)


def _set_budget(tenant: Tenant, rng: Random, now: datetime) -> None:
    factor = rng.choice(BUDGETS)
    spent = spending.of_month(tenant.account, months.containing(now))
    if factor is not None and spent > 1:
        tenant.account.monthly_budget = max(Decimal(1), round_money(spent * factor, 0))
        tenant.account.save(update_fields=["monthly_budget"])


def _set_room(tenant: Tenant, rng: Random) -> None:
    use = StorageUse.objects.filter(account=tenant.account).first()
    if use is not None:
        room, account = rng.choice(ROOM), tenant.account
        account.max_files = max(account.max_files, int(use.files * room))
        account.max_bytes = max(account.max_bytes, int(use.bytes * room))
        account.save(update_fields=["max_files", "max_bytes"])
