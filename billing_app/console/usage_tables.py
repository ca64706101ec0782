"""Usage of some days by account, by model and by day, from two sums that the database makes."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Any, NamedTuple

from billing_app import daily
from billing_app.models import Account
from billing_app.pricing import NOTHING, Bill


class Tenant(NamedTuple):
    name: str
    pk: int


@dataclass(frozen=True, slots=True)
class Usage:
    """Accounts (none where one is chosen) and models: what was charged the most first; days: the latest first."""

    total: Bill
    by_account: dict[Tenant, Bill]
    by_model: dict[str, Bill]
    by_day: dict[date, Bill]
    by_day_and_model: dict[tuple[date, str], Bill]


def of(first: date, last: date, *, account: Account | None = None, model: str = "") -> Usage:
    tenants = {} if account else daily.usage(first, last, "account__name", "account", model=model)
    cells = daily.usage(first, last, "day", "model_name", account=account, model=model)
    return Usage(
        total=sum(cells.values(), NOTHING),
        by_account=_dearest((Tenant(*key), bill) for key, bill in tenants.items()),
        by_model=_dearest(_added_up((name, bill) for (_, name), bill in cells.items()).items()),
        by_day=dict(sorted(_added_up((day, bill) for (day, _), bill in cells.items()).items(), reverse=True)),
        by_day_and_model={(day, name): bill for (day, name), bill in cells.items()},
    )


def _added_up(parts: Iterable[tuple[Any, Bill]]) -> dict[Any, Bill]:
    found: dict[Any, Bill] = {}
    for key, bill in parts:
        found[key] = found.get(key, NOTHING) + bill
    return found


def _dearest(bills: Iterable[tuple[Any, Bill]]) -> dict[Any, Bill]:
    return dict(sorted(bills, key=lambda pair: (-pair[1].charged, -pair[1].requests, pair[0])))
