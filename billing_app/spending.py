"""What an account, or one of its keys, may still spend: credit, monthly budgets and limits of keys."""

from datetime import datetime
from decimal import Decimal

from django.conf import settings

from billing_app import months
from billing_app.models import Account, APIKey, Balance, BudgetAlert, MonthlySpend
from billing_app.pricing import add, plain, share


def note(account: Account, api_key_id: int | None, month: str, cost: Decimal, *, now: datetime) -> None:
    """Adds a charge to the month's, under the lock of the account's balance, and raises alerts for what it crosses."""
    before = of_month(account, month) if account.monthly_budget else Decimal(0)
    row, _ = MonthlySpend.objects.get_or_create(account=account, api_key_id=api_key_id or 0, month=month)
    MonthlySpend.objects.filter(pk=row.pk).update(amount=add([row.amount, cost]))
    if budget := account.monthly_budget:
        _alert(account, month, budget, add([before, cost]), now)


def of_month(account: Account, month: str) -> Decimal:
    return add(MonthlySpend.objects.filter(account=account, month=month).values_list("amount", flat=True))


def of_key(key: APIKey, month: str) -> Decimal:
    return add(
        MonthlySpend.objects.filter(account=key.account_id, api_key_id=key.pk, month=month).values_list(
            "amount", flat=True
        )
    )


def refusal(account: Account, key: APIKey | None, *, now: datetime) -> str | None:
    """Why the account may not start a batch that costs anything; None if it may."""
    month, currency = months.containing(now), settings.CURRENCY
    balance = Balance.objects.filter(account=account).first()
    if balance and balance.is_prepaid and balance.available <= 0:
        return "The account's prepaid credit is used up or reserved by its running batches. Please top it up."
    budget = account.monthly_budget
    if budget is not None and account.budget_is_hard and of_month(account, month) >= budget:
        return f"The account's budget of {plain(budget)} {currency} for {month} is used up."
    limit = key.monthly_limit if key else None
    if key and limit is not None and of_key(key, month) >= limit:
        return f"This API key's limit of {plain(limit)} {currency} for {month} is used up."
    return None


def _alert(account: Account, month: str, budget: Decimal, spent: Decimal, now: datetime) -> None:
    reached = {percent for percent in settings.BUDGET_ALERTS if share(budget, percent) <= spent}
    if reached:  # also where it was the budget that came down to what is spent
        given = BudgetAlert.objects.filter(account=account, month=month, budget=budget)
        reached -= set(given.values_list("percent", flat=True))
    for percent in sorted(reached):
        BudgetAlert.objects.create(
            account=account, month=month, percent=percent, budget=budget, spent=spent, created_at=now
        )
