"""Usage by day: moved with the ledger, priced to the last digit, and proved against it."""

import importlib
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.apps import apps
from django.db import connection, transaction
from django.db.models import F
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import given, settings
from hypothesis import strategies as st

from billing_app import daily, ledger, proof, totals
from billing_app.models import Account, DailyUsage, LedgerEntry, Price
from billing_app.pricing import NOTHING, Tokens, charge
from tests.books import NOVEMBER, use
from tests.factories import AccountFactory, PriceFactory

pytestmark = pytest.mark.django_db

DAY = date(2026, 11, 20)
A_DAY = timedelta(days=1)
backfill = importlib.import_module("billing_app.migrations.0007_days_of_past_usage").add_up_past_usage


@pytest.fixture
def account() -> Account:
    made: Account = AccountFactory(name="acme")
    return made


@pytest.fixture
def price() -> Price:
    made: Price = PriceFactory(input_price=Decimal("0.15"), output_price=Decimal("0.6"))
    return made


def usage_of(account: Account, price: Price, number: int = 1, batch_id: str = "batch_1") -> ledger.Usage:
    return ledger.Usage(f"checkpoint:{number}", account.pk, None, batch_id, price, 2, Tokens(number, 1, 3, 2))


def rows() -> list[tuple[Any, ...]]:
    return sorted(DailyUsage.objects.values_list("account__name", "model_name", "day", *totals.COUNTS))


def test_a_flush_moves_one_row_once(account: Account, price: Price) -> None:
    """However many entries it has: one lock and one update for each account, model and day."""
    usages = [usage_of(account, price, number) for number in (1, 2, 3)]
    with CaptureQueriesContext(
        connection,
    ) as seen:
        ledger.record(usages, now=NOVEMBER)
    assert rows() == [("acme", "m", DAY, 6, 6, 3, 9, 6)]
    assert sum('UPDATE "billing_app_dailyusage"' in query["sql"] for query in seen) == 1
    use(account, price, Tokens(10, 0, 1, 0))
    assert rows() == [("acme", "m", DAY, 7, 16, 3, 10, 6)]


def test_what_was_booked_before_is_not_counted_again(account: Account, price: Price) -> None:
    """M4: a replay moves nothing here either."""
    ledger.record([usage_of(account, price, 1)], now=NOVEMBER)
    ledger.record([usage_of(account, price, 1), usage_of(account, price, 2)], now=NOVEMBER)
    assert rows() == [("acme", "m", DAY, 4, 3, 2, 6, 4)]


def test_accounts_models_and_prices_have_rows_of_their_own(account: Account, price: Price) -> None:
    other, newer = AccountFactory(name="other"), PriceFactory(input_price=Decimal(9))
    dear = PriceFactory(model_name="dear")
    for who, paid in ((account, price), (account, newer), (account, dear), (other, price)):
        use(who, paid, Tokens(input=5))
    assert [row[:2] for row in rows()] == [("acme", "dear"), ("acme", "m"), ("acme", "m"), ("other", "m")]


@pytest.mark.parametrize(
    ("zone", "moment", "day"),
    [
        ("UTC", datetime(2026, 11, 20, 23, 59, 59, 999999, UTC), DAY),
        ("UTC", datetime(2026, 11, 21, tzinfo=UTC), DAY + A_DAY),
        ("Asia/Shanghai", datetime(2026, 11, 20, 15, 59, 59, tzinfo=UTC), DAY),
        ("Asia/Shanghai", datetime(2026, 11, 20, 16, tzinfo=UTC), DAY + A_DAY),
        ("America/New_York", datetime(2026, 11, 21, 4, 59, tzinfo=UTC), DAY),
        ("America/New_York", datetime(2026, 7, 21, 4, tzinfo=UTC), date(2026, 7, 21)),
        ("America/New_York", datetime(2026, 7, 21, 3, 59, tzinfo=UTC), date(2026, 7, 20)),
    ],
)
def test_a_day_is_that_of_the_installation(
    account: Account, price: Price, settings: Any, zone: str, moment: datetime, day: date
) -> None:
    settings.TIME_ZONE = zone
    with timezone.override("Pacific/Kiritimati" if moment.hour < 12 else "Pacific/Pago_Pago"):  # a viewer's
        use(account, price, now=moment)
    assert rows()[0][2] == day
    backfill(apps, None)
    assert rows()[0][2] == day
    assert list(proof.prove_books()) == []


def test_a_result_that_is_not_stored_uses_nothing(account: Account, price: Price) -> None:
    """In the transaction of the entry: both or neither."""
    with transaction.atomic():
        ledger.record([usage_of(account, price)], now=NOVEMBER)
        transaction.set_rollback(True)
    assert rows() == []


# What it adds up to


@settings(max_examples=25)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 1), st.integers(0, 2), st.integers(0, 3), st.integers(0, 10**15), st.integers(0, 10**15)
        ),
        max_size=12,
    )
)
def test_amounts_are_those_of_the_ledger_to_the_last_digit(used: list[tuple[int, int, int, int, int]]) -> None:
    accounts = [AccountFactory(), AccountFactory()]
    prices = [
        PriceFactory(input_price=Decimal("0.123456789012"), output_price=Decimal("999999.999999999999")),
        PriceFactory(cached_input_price=Decimal("0.000000000001"), batch_discount=Decimal("0.333333333333")),
        PriceFactory(model_name="other"),
    ]
    for who, which, day, read, made in used:
        tokens = Tokens(read, read // 3, made, made // 2)
        use(accounts[who], prices[which], tokens, now=NOVEMBER + day * A_DAY)
    entries = LedgerEntry.objects.all()
    first, last = DAY, DAY + 3 * A_DAY
    assert daily.usage(first, last, "account__name", "model_name") == totals.usage(
        entries, "account__name", "model_name"
    )
    assert daily.usage(first, last) == totals.usage(entries)
    for account in accounts:
        charged = totals.usage(entries.filter(account=account)).get((), NOTHING).charged
        assert daily.spent(first, last, account=account) == charged
    assert list(proof.prove_books()) == []


def test_usage_is_told_by_day_and_only_of_the_days_asked_for(account: Account, price: Price) -> None:
    for number, tokens in ((-1, 7), (0, 1), (1, 2), (2, 4), (3, 9)):
        use(account, price, Tokens(input=tokens), now=NOVEMBER + number * A_DAY)
    found = daily.usage(DAY, DAY + 2 * A_DAY, "day")
    assert {day: bill.tokens.input for (day,), bill in found.items()} == {DAY: 1, DAY + A_DAY: 2, DAY + 2 * A_DAY: 4}
    assert daily.spent(DAY, DAY) == charge(Tokens(input=1), price.rates)
    assert daily.spent(DAY - 9 * A_DAY, DAY - 8 * A_DAY) == 0


def test_usage_of_one_account_or_one_model(account: Account, price: Price) -> None:
    other, dear = AccountFactory(), PriceFactory(model_name="dear")
    use(account, price, Tokens(input=1))
    use(account, dear, Tokens(input=2))
    use(other, price, Tokens(input=4))
    assert daily.usage(DAY, DAY, account=account)[()].tokens.input == 3
    assert daily.usage(DAY, DAY, model="m")[()].tokens.input == 5
    assert daily.usage(DAY, DAY, "model_name", account=other) == daily.usage(
        DAY, DAY, "model_name", account=other, model="m"
    )


# Proved


@pytest.mark.parametrize(
    "falsify",
    [
        lambda rows: rows.update(output_tokens=F("output_tokens") + 1),
        lambda rows: rows.update(requests=F("requests") + 1),
        lambda rows: rows.update(reasoning_tokens=0),
        lambda rows: rows.update(model_name="another"),
        lambda rows: rows.delete(),
        lambda rows: rows.update(day=DAY + 2 * A_DAY),
        lambda rows: rows.update(day=DAY - 2 * A_DAY),
    ],
)
def test_a_day_that_was_falsified_is_found(account: Account, price: Price, falsify: Callable[[Any], Any]) -> None:
    ledger.record([usage_of(account, price)], now=NOVEMBER)
    ledger.record([usage_of(account, price, 2)], now=NOVEMBER + 9 * A_DAY)
    assert list(proof.prove_books()) == []
    falsify(DailyUsage.objects.filter(day=DAY))
    found = list(proof.prove_books())
    assert found
    assert all("daily usage of" in one.what and one.account == "acme" for one in found)


def test_a_row_that_no_entry_stands_for_is_found(account: Account, price: Price) -> None:
    ledger.lock(account.pk)
    DailyUsage.objects.create(account=account, model_name="m", price=price, day=DAY, input_tokens=1)
    (found,) = proof.prove_books()
    assert (found.kept, found.due) == (
        "requests 0, input_tokens 1, cached_tokens 0, output_tokens 0, reasoning_tokens 0",
        "requests 0, input_tokens 0, cached_tokens 0, output_tokens 0, reasoning_tokens 0",
    )


def test_another_time_zone_later_is_no_falsification(account: Account, price: Price, settings: Any) -> None:
    for zone in ("Pacific/Kiritimati", "Pacific/Pago_Pago", "UTC"):
        settings.TIME_ZONE = zone
        for hour in range(0, 24, 6):
            use(account, price, Tokens(input=hour), now=NOVEMBER - A_DAY / 2 + timedelta(hours=hour))
    assert len(rows()) == 3
    assert list(proof.prove_books()) == []


def test_past_usage_is_added_up_by_the_migration(account: Account, price: Price) -> None:
    """Once more, whatever was there: the ledger is the record."""
    other = AccountFactory(name="other")
    for number in range(3):
        use(account, price, Tokens(number, 0, number, 0), now=NOVEMBER + number * A_DAY)
        use(other, PriceFactory(model_name=f"m{number}"), now=NOVEMBER)
    ledger.top_up(account.pk, Decimal(5), key="k", reason="r", made_by="x", now=NOVEMBER)
    moved = rows()
    for _ in range(2):
        DailyUsage.objects.filter(account=account).update(requests=99)
        backfill(apps, None)
        assert rows() == moved
