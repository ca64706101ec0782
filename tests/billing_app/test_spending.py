"""Budgets, limits of keys and prepaid credit: who is warned, and who is refused, at which amount."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from billing_app import api_keys, ledger, spending
from billing_app.models import Account, APIKey, BudgetAlert, MonthlySpend, Price
from billing_app.pricing import Tokens
from tests.books import DECEMBER, NOVEMBER, hold, top_up, use
from tests.factories import AccountFactory, PriceFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def price() -> Price:
    """A token costs 0.000001."""
    made: Price = PriceFactory(input_price=Decimal(2))
    return made


def _account(**columns: Any) -> Account:
    made: Account = AccountFactory(**columns)
    return made


def _spend(account: Account, price: Price, amount: str, key: APIKey | None = None, **facts: Any) -> None:
    tokens = Tokens(input=int(Decimal(amount) * 10**6))
    use(account, price, tokens, api_key_id=key.pk if key else None, **facts)


def _alerts(account: Account) -> list[int]:
    return list(BudgetAlert.objects.filter(account=account).order_by("pk").values_list("percent", flat=True))


# Alerts


@pytest.mark.parametrize(
    ("charges", "alerts"),
    [
        (["49.999999"], []),
        (["50"], [50]),
        (["49.999999", "0.000001"], [50]),
        (["50", "0.000001", "29.999998"], [50]),
        (["79.999999", "0.000001"], [50, 80]),
        (["99.999999"], [50, 80]),
        (["99.999999", "0.000001"], [50, 80, 100]),
        (["250"], [50, 80, 100]),
        (["40", "45"], [50, 80]),
        (["60", "60", "60"], [50, 80, 100]),
        (["100", "100", "100"], [50, 80, 100]),
    ],
)
def test_an_alert_is_raised_once_for_each_crossing(price: Price, charges: list[str], alerts: list[int]) -> None:
    account = _account(monthly_budget=Decimal(100))
    for charge in charges:
        _spend(account, price, charge)
    assert _alerts(account) == alerts


def test_an_alert_says_what_was_spent_of_which_budget(price: Price) -> None:
    account = _account(monthly_budget=Decimal("0.3"))
    _spend(account, price, "0.15")
    alert = BudgetAlert.objects.get()
    assert (alert.month, alert.percent, alert.budget, alert.spent) == ("2026-11", 50, Decimal("0.3"), Decimal("0.15"))
    assert (alert.created_at, alert.sent_at) == (NOVEMBER, None)


def test_a_replay_raises_no_alert(price: Price) -> None:
    account = _account(monthly_budget=Decimal(100))
    for _ in range(2):
        use(account, price, Tokens(input=50_000_000), key="checkpoint:1")
    assert _alerts(account) == [50]
    assert spending.of_month(account, "2026-11") == 50


def test_another_month_and_another_budget_are_crossed_anew(price: Price) -> None:
    account = _account(monthly_budget=Decimal(100))
    _spend(account, price, "50")
    _spend(account, price, "50", now=DECEMBER)
    assert _alerts(account) == [50, 50]
    Account.objects.update(monthly_budget=Decimal(200))
    account.refresh_from_db()
    _spend(account, price, "50", now=DECEMBER)
    assert _alerts(account) == [50, 50, 50]


def test_a_budget_counts_what_all_keys_spend_and_no_other_account(price: Price) -> None:
    account, other = _account(monthly_budget=Decimal(100)), _account(monthly_budget=Decimal(100))
    keys = [api_keys.issue(account)[0] for _ in range(2)]
    _spend(other, price, "49")
    for key in keys:
        _spend(account, price, "25", key)
    assert _alerts(account) == [50]
    assert _alerts(other) == []


def test_a_budget_that_comes_down_to_what_was_spent_is_told_of_at_the_next_charge(price: Price) -> None:
    """Nobody's batches are refused without a word."""
    account = _account()
    _spend(account, price, "70")
    Account.objects.update(monthly_budget=Decimal(100))
    account.refresh_from_db()
    for _ in range(2):
        _spend(account, price, "15")
    assert _alerts(account) == [50, 80, 100]


@pytest.mark.parametrize("budget", [None, Decimal(0)])
def test_no_budget_no_alert(price: Price, budget: Decimal | None) -> None:
    account = _account(monthly_budget=budget)
    _spend(account, price, "50")
    assert _alerts(account) == []


# What was spent


def test_spending_is_kept_by_key_and_month_to_the_last_digit(price: Price) -> None:
    account = _account()
    key, _ = api_keys.issue(account)
    for _ in range(3):
        _spend(account, price, "0.000001", key)
    _spend(account, price, "0.000002")
    _spend(account, price, "7", key, now=DECEMBER)
    assert spending.of_key(key, "2026-11") == Decimal("0.000003")
    assert spending.of_month(account, "2026-11") == Decimal("0.000005")
    assert spending.of_month(account, "2026-12") == 7
    assert MonthlySpend.objects.count() == 3


# Refusals, at one before, at, and one beyond


@pytest.mark.parametrize(("spent", "refused"), [("9.999999", False), ("10", True), ("10.000001", True)])
def test_a_hard_budget_refuses_once_it_is_used_up(price: Price, spent: str, refused: bool) -> None:
    account = _account(monthly_budget=Decimal(10), budget_is_hard=True)
    _spend(account, price, spent)
    said = spending.refusal(account, None, now=NOVEMBER)
    assert said == ("The account's budget of 10 USD for 2026-11 is used up." if refused else None)
    assert spending.refusal(account, None, now=DECEMBER) is None


def test_a_soft_budget_refuses_nothing(price: Price) -> None:
    account = _account(monthly_budget=Decimal(10))
    _spend(account, price, "100")
    assert spending.refusal(account, None, now=NOVEMBER) is None


def test_a_hard_budget_of_nothing_refuses_at_once() -> None:
    account = _account(monthly_budget=Decimal(0), budget_is_hard=True)
    assert "budget of 0 USD" in (spending.refusal(account, None, now=NOVEMBER) or "")


@pytest.mark.parametrize(("spent", "refused"), [("9.999999", False), ("10", True), ("10.000001", True)])
def test_a_key_is_refused_once_its_limit_is_used_up(price: Price, spent: str, refused: bool) -> None:
    account = _account()
    key, other = (api_keys.issue(account)[0] for _ in range(2))
    key.monthly_limit = Decimal(10)
    key.save()
    _spend(account, price, spent, key)
    _spend(account, price, "100", other)
    said = spending.refusal(account, key, now=NOVEMBER)
    assert said == ("This API key's limit of 10 USD for 2026-11 is used up." if refused else None)
    for free in (other, None):
        assert spending.refusal(account, free, now=NOVEMBER) is None
    assert spending.refusal(account, key, now=DECEMBER) is None


@pytest.mark.parametrize(("available", "refused"), [("0.000001", False), ("0", True)])
def test_a_prepaid_account_is_refused_without_available_credit(price: Price, available: str, refused: bool) -> None:
    account = _account()
    ledger.set_prepaid(account.pk, True)
    top_up(account, "10")
    hold(account, "batch_1", str(10 - Decimal(available)))
    assert (spending.refusal(account, None, now=NOVEMBER) is not None) is refused


def test_who_pays_by_statement_is_not_asked_for_credit(price: Price) -> None:
    account = _account()
    _spend(account, price, "1000")
    assert spending.refusal(account, None, now=NOVEMBER) is None
    assert spending.refusal(_account(), None, now=NOVEMBER + timedelta(days=1)) is None
