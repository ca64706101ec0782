"""What usage adds up to: kept in mind while batches are made up, and written once."""

from collections import defaultdict
from datetime import date, datetime
from decimal import Decimal
from functools import lru_cache

from django.utils import timezone

from batches_app.seeding.loading import Table
from billing_app import quotas
from billing_app.models import Account, Balance, DailyUsage, MonthlySpend, Price
from billing_app.pricing import Tokens, add, charge, minus


class Books:
    def __init__(self) -> None:
        self._daily: defaultdict[tuple[int, str, int, date], list[int]] = defaultdict(lambda: [0] * 5)
        self._monthly: defaultdict[tuple[int, str, int], list[Decimal]] = defaultdict(lambda: [Decimal(0)])
        self._kept: defaultdict[int, list[int]] = defaultdict(lambda: [0, 0])

    def use(
        self, account: int, key: int, price: Price, requests: int, tokens: Tokens, at: datetime
    ) -> tuple[str, Decimal]:
        """Returns the month and what it costs."""
        day, cost = local_day(at), charge(tokens, price.rates)
        sums = self._daily[account, price.model_name, price.pk, day]
        for place, number in enumerate((requests, tokens.input, tokens.cached, tokens.output, tokens.reasoning)):
            sums[place] += number
        month = f"{day:%Y-%m}"
        spent = self._monthly[account, month, key]
        spent[0] = add((spent[0], cost))
        return month, cost

    def keep(self, account: int, size: int) -> None:
        kept = self._kept[account]
        kept[0] += 1
        kept[1] += size

    def write(self) -> None:
        names = ("requests", "input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens")
        daily = Table(DailyUsage, "account_id", "model_name", "price_id", "day", *names)
        daily.load((*key, *sums) for key, sums in self._daily.items())
        monthly = Table(MonthlySpend, "account_id", "month", "api_key_id", "amount")
        monthly.load((*key, spent) for key, (spent,) in self._monthly.items())
        for account in Account.objects.filter(pk__in=self._kept):
            files, size = self._kept[account.pk]
            quotas.keep(account, files=files, size=size)
        self._write_balances()

    def _write_balances(self) -> None:
        spent: defaultdict[int, Decimal] = defaultdict(Decimal)
        for (account, _, _), (amount,) in self._monthly.items():
            spent[account] = add((spent[account], amount))
        Balance.objects.bulk_create(Balance(account_id=account, available=minus(spent[account])) for account in spent)


def local_day(moment: datetime) -> date:
    # No zone's midnight is anywhere but at a quarter of an hour.
    return _day_of(moment.replace(minute=moment.minute // 15 * 15, second=0, microsecond=0))


@lru_cache(maxsize=10_000)
def _day_of(moment: datetime) -> date:
    return timezone.localtime(moment, timezone.get_default_timezone()).date()
