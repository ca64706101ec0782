"""A month is closed some minutes after its end, once, with the balances of its entries."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext
from hypothesis import given, settings
from hypothesis import strategies as st

from batches_app import reconciliation
from billing_app import closing, ledger, proof
from billing_app.models import Account, Balance, ClosedMonth, LedgerEntry, Price
from billing_app.pricing import Tokens
from tests.books import DECEMBER, NOVEMBER, Amount, adjust, hold, release, stands, top_up, use
from tests.factories import AccountFactory, PriceFactory

pytestmark = pytest.mark.django_db

FIRST_OF_DECEMBER = datetime(2026, 12, 1, tzinfo=UTC)


def _account(created_at: datetime = NOVEMBER) -> Account:
    made: Account = AccountFactory(created_at=created_at)
    return made


@pytest.fixture
def price() -> Price:
    """A million input tokens cost 0.5."""
    made: Price = PriceFactory(input_price=Decimal(1))
    return made


def _closed(account: Account) -> list[tuple[str, Amount, Amount]]:
    rows = ClosedMonth.objects.filter(account=account).order_by("month")
    return list(rows.values_list("month", "opening", "closing"))


@pytest.mark.parametrize(
    ("moment", "is_closed"),
    [
        (FIRST_OF_DECEMBER - timedelta(microseconds=1), False),
        (FIRST_OF_DECEMBER, False),
        (FIRST_OF_DECEMBER + timedelta(seconds=599), False),
        (FIRST_OF_DECEMBER + timedelta(seconds=600), True),
    ],
)
def test_a_month_is_closed_ten_minutes_after_its_end(moment: datetime, is_closed: bool) -> None:
    account = _account()
    closing.close_due(moment)
    assert _closed(account) == ([("2026-11", 0, 0)] if is_closed else [])


def test_the_end_of_a_month_is_that_of_the_installation(settings: Any) -> None:
    settings.TIME_ZONE = "Asia/Shanghai"
    account = _account()
    midnight = datetime(2026, 11, 30, 16, tzinfo=UTC)
    closing.close_due(midnight + timedelta(seconds=599))
    assert _closed(account) == []
    closing.close_due(midnight + timedelta(seconds=600))
    assert [month for month, *_ in _closed(account)] == ["2026-11"]


def test_it_is_closed_with_the_balance_of_its_entries(price: Price) -> None:
    """M5: exact; holds move no money."""
    account = _account()
    ledger.set_prepaid(account.pk, True)
    top_up(account, "10.000000001")
    hold(account, "batch_1", "3")
    use(account, price, Tokens(input=3), batch_id="batch_1")
    adjust(account, "-1")
    top_up(account, "5", now=DECEMBER)
    closing.close_due(DECEMBER)
    assert _closed(account) == [("2026-11", 0, Decimal("8.999998501"))]
    assert Balance.objects.get().closed_through == "2026-11"
    release(account, "batch_1", now=DECEMBER)
    closing.close_due(DECEMBER + timedelta(days=31))
    assert _closed(account)[1] == ("2026-12", Decimal("8.999998501"), Decimal("13.999998501"))
    assert stands(account) == (Decimal("13.999998501"), 0)


def test_missed_months_are_made_up_for_in_order(price: Price) -> None:
    """After half a year without a reconciler; also those in which nothing happened."""
    account = _account()
    use(account, price, Tokens(input=2_000_000))
    use(account, price, now=NOVEMBER + timedelta(days=62))
    closing.close_due(datetime(2027, 4, 2, tzinfo=UTC))
    assert _closed(account) == [
        ("2026-11", 0, -1),
        ("2026-12", -1, -1),
        ("2027-01", -1, Decimal("-1.5")),
        ("2027-02", Decimal("-1.5"), Decimal("-1.5")),
        ("2027-03", Decimal("-1.5"), Decimal("-1.5")),
    ]
    assert Balance.objects.get().closed_through == "2027-03"


def test_months_begin_with_the_account_or_its_first_entry(price: Price) -> None:
    unused, early = _account(), _account()
    use(early, price, now=NOVEMBER - timedelta(days=31))
    closing.close_due(DECEMBER)
    assert [month for month, *_ in _closed(unused)] == ["2026-11"]
    assert [month for month, *_ in _closed(early)] == ["2026-10", "2026-11"]


def test_an_account_of_this_month_has_nothing_to_close() -> None:
    account = _account(created_at=DECEMBER)
    closing.close_due(DECEMBER)
    assert _closed(account) == []


def test_to_close_again_does_nothing(price: Price) -> None:
    account = _account()
    use(account, price)
    closing.close_due(DECEMBER)
    before = list(ClosedMonth.objects.values())
    closing.close_due(DECEMBER)
    closing.close_due(NOVEMBER)
    assert list(ClosedMonth.objects.values()) == before


def test_what_comes_late_is_booked_into_the_next_month(price: Price) -> None:
    """Also where the booking's clock still shows the month that is closed."""
    account = _account()
    use(account, price)
    closing.close_due(DECEMBER)
    use(account, price, now=NOVEMBER)
    top_up(account, "7", now=FIRST_OF_DECEMBER - timedelta(microseconds=1))
    late = LedgerEntry.objects.order_by("pk").values_list("month", flat=True)[1:]
    assert list(late) == ["2026-12", "2026-12"]
    closing.close_due(DECEMBER + timedelta(days=31))
    assert _closed(account) == [("2026-11", 0, Decimal("-0.5")), ("2026-12", Decimal("-0.5"), 6)]


def test_nothing_due_costs_one_query() -> None:
    _account()
    closing.close_due(DECEMBER)
    _account(created_at=DECEMBER)
    with CaptureQueriesContext(connection) as queries:
        closing.close_due(DECEMBER)
    assert len(queries) == 1


def test_one_account_does_not_keep_the_others_open(monkeypatch: pytest.MonkeyPatch) -> None:
    broken, sound = _account(), _account()
    lock = ledger.lock

    def failing(account_id: int) -> Balance:
        if account_id == broken.pk:
            raise ArithmeticError
        return lock(account_id)

    monkeypatch.setattr(ledger, "lock", failing)
    closing.close_due(DECEMBER)
    assert _closed(broken) == []
    assert len(_closed(sound)) == 1


def test_the_reconciler_closes_months() -> None:
    assert closing.close_due in reconciliation.STEPS


@settings(max_examples=15)
@given(st.lists(st.tuples(st.integers(0, 200), st.integers(1, 10**9), st.booleans()), max_size=12))
def test_closed_months_are_a_chain_that_ends_in_the_balance(moves: list[tuple[int, int, bool]]) -> None:
    """However the entries and the closings fall among each other."""
    account, price = _account(), PriceFactory(input_price=Decimal("0.123456789"))
    now = NOVEMBER
    for days, tokens, closes in moves:
        now += timedelta(days=days)
        use(account, price, Tokens(input=tokens), now=now)
        if closes:
            closing.close_due(now)
    closing.close_due(now + timedelta(days=62))
    chain = _closed(account)
    assert [opening for _, opening, _ in chain] == [0, *(closing for *_, closing in chain[:-1])]
    assert chain[-1][2] == sum(stands(account))
    assert list(proof.prove_books()) == []


@pytest.mark.django_db(transaction=True)
def test_two_that_close_at_once_while_usage_comes_in() -> None:
    """Each month is closed once, and what is in it stays what it was closed with."""
    account, price = _account(), PriceFactory()
    use(account, price)

    def close(_: int) -> None:
        closing.close_due(DECEMBER)
        connections.close_all()

    def book(_: int) -> None:
        use(account, price)  # its clock is late
        connections.close_all()

    with ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(task, n) for n in range(8) for task in (close, book)]:
            done.result()
    assert len(_closed(account)) == 1
    assert list(proof.prove_books()) == []
