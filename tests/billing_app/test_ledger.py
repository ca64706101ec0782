"""Entries are added, never changed; balance, holds and months follow from them to the last digit."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from django.apps import apps
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.db.models import Model
from hypothesis import given, settings
from hypothesis import strategies as st

from billing_app import api_keys, ledger, months, proof
from billing_app.immutability import TABLES
from billing_app.models import Account, APIKey, AuditEntry, Balance, ClosedMonth, Hold, LedgerEntry, Price
from billing_app.pricing import Tokens, add, charge, plain
from tests.books import NOVEMBER, adjust, hold, release, stands, top_up, use
from tests.factories import AccountFactory, BatchFactory, PriceFactory, StoredFileFactory

pytestmark = pytest.mark.django_db

Kind = LedgerEntry.Kind
CENT = Tokens(input=20_000)  # of PRICE
amounts = st.decimals("0.000001", "1000", places=9)


@pytest.fixture
def account() -> Account:
    made: Account = AccountFactory()
    return made


@pytest.fixture
def prepaid(account: Account) -> Account:
    ledger.set_prepaid(account.pk, True)
    return account


@pytest.fixture
def price() -> Price:
    """A million input tokens cost 0.5."""
    made: Price = PriceFactory(input_price=Decimal(1), output_price=Decimal(2))
    return made


# What entries add up to


@settings(max_examples=25)
@given(
    st.lists(
        st.tuples(st.sampled_from(["top_up", "give", "take", "use", "hold", "release"]), amounts, st.integers(0, 3)),
        max_size=12,
    ),
    st.booleans(),
)
def test_the_balance_is_the_sum_of_the_entries_after_any_mix(steps: list[tuple[str, Decimal, int]], paid: bool) -> None:
    """M5: whatever is booked, refused or written off, and a prepaid balance never goes below zero."""
    account, price = AccountFactory(), PriceFactory(input_price=Decimal("0.12345678901234567890123456789"))
    ledger.set_prepaid(account.pk, paid)
    for kind, amount, number in steps:
        batch_id = f"batch_{account.pk}_{number}"
        try:
            match kind:
                case "top_up":
                    top_up(account, str(amount))
                case "give":
                    adjust(account, str(amount))
                case "take":
                    adjust(account, str(-amount))
                case "use":
                    use(account, price, Tokens(input=int(amount * 10**6), output=7), batch_id=batch_id)
                case "hold":
                    hold(account, batch_id, str(amount))
                case "release":
                    release(account, batch_id)
        except ledger.NotCovered:
            assert paid
        available, held = stands(account)
        assert held >= 0
        assert available >= 0 or not paid
    assert list(proof.prove_books()) == []


def test_no_digit_is_lost_on_the_way(prepaid: Account) -> None:
    """M5: Python's own arithmetic, a mere minus sign included, rounds to 28 digits."""
    price = PriceFactory(input_price=Decimal("123456.123456789"), batch_discount=Decimal("0.333333333333"))
    tokens = Tokens(input=999_999_999_999)
    reserved = "888888888888.0000000000000000000001"
    cost = Fraction(tokens.input) * Fraction("123456.123456789") * Fraction("0.333333333333") / 10**6
    top_up(prepaid, "999999999999")
    hold(prepaid, "batch_1", reserved)
    use(prepaid, price, tokens)
    available, held = stands(prepaid)
    assert Fraction(held) == Fraction(reserved) - cost
    assert Fraction(available) == 999_999_999_999 - Fraction(reserved)
    assert Fraction(ledger.bill("batch_1").charged) == cost
    release(prepaid, "batch_1")
    assert Fraction(stands(prepaid)[0]) == 999_999_999_999 - cost
    with pytest.raises(ledger.NotCovered):
        adjust(prepaid, f"-{plain(Decimal(stands(prepaid)[0]))}1")
    use(prepaid, price, Tokens(input=25 * 10**12))
    assert stands(prepaid) == (0, 0)


@pytest.mark.parametrize("book", [top_up, adjust])
def test_the_same_key_books_once_for_ever(account: Account, book: Any) -> None:
    assert book(account, "10", key="invoice 7") is True
    assert book(account, "10", key="invoice 7") is False
    assert book(account, "99", key="invoice 7", now=NOVEMBER + timedelta(days=400)) is False
    assert stands(account) == (10, 0)


def test_a_checkpoint_is_billed_once_for_ever(account: Account, price: Price) -> None:
    """M4: also when it is delivered again months later, or twice in one call."""
    usage = ledger.Usage("checkpoint:1", account.pk, None, "batch_1", price, 1, CENT)
    for now in (NOVEMBER, NOVEMBER, NOVEMBER + timedelta(days=90)):
        ledger.record([usage], now=now)
    assert stands(account) == (Decimal("-0.01"), 0)
    assert LedgerEntry.objects.get().month == "2026-11"


def test_a_hold_is_placed_once_and_not_again_after_its_release(prepaid: Account) -> None:
    top_up(prepaid, "10")
    for _ in range(2):
        hold(prepaid, "batch_1", "4")
    assert stands(prepaid) == (6, 4)
    for _ in range(2):
        release(prepaid, "batch_1")
    hold(prepaid, "batch_1", "4")
    assert stands(prepaid) == (10, 0)


def test_the_database_refuses_a_key_that_was_booked(account: Account) -> None:
    """M4: the code asks first, and the database proves it."""
    top_up(account, "1", key="k")
    entry = LedgerEntry.objects.get()
    entry.pk = None
    with pytest.raises(IntegrityError), transaction.atomic():
        entry.save(force_insert=True)


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": Kind.TOP_UP, "amount": Decimal(-1)},
        {"kind": Kind.TOP_UP, "amount": Decimal(0)},
        {"kind": Kind.ADJUSTMENT, "amount": Decimal(1), "reason": ""},
        {"kind": Kind.ADJUSTMENT, "amount": Decimal(0), "reason": "r"},
        {"kind": Kind.USAGE, "amount": Decimal("-0.1")},
        {"kind": Kind.HOLD_PLACED, "amount": Decimal(1), "held": Decimal(1)},
        {"kind": Kind.HOLD_PLACED, "amount": Decimal(0), "held": Decimal(-1)},
        {"kind": Kind.HOLD_RELEASED, "amount": Decimal(0), "held": Decimal(1)},
    ],
)
def test_the_database_refuses_an_entry_that_cannot_be(account: Account, wrong: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        LedgerEntry.objects.create(key="k", account=account, month="2026-11", **wrong)


@pytest.mark.parametrize("cost", [Decimal("0.1"), Decimal(0)])
def test_usage_adds_nothing_to_a_balance(account: Account, price: Price, cost: Decimal) -> None:
    entry = LedgerEntry(key="k", account=account, month="2026-11", kind=Kind.USAGE, price=price, amount=cost)
    if cost:
        with pytest.raises(IntegrityError), transaction.atomic():
            entry.save(force_insert=True)
    else:
        entry.save(force_insert=True)  # free models have entries too


# Entries stay


def _row_of(table: str) -> Model:
    account: Account = AccountFactory()
    match table:
        case "billing_app_price":
            price: Price = PriceFactory()
            return price
        case "billing_app_ledgerentry":
            top_up(account, "10")
            return LedgerEntry.objects.get(account=account)
        case "billing_app_closedmonth":
            zero = Decimal(0)
            return ClosedMonth.objects.create(account=account, month="2026-10", opening=zero, closing=zero)
        case "billing_app_auditentry":
            return AuditEntry.objects.create(actor="a", action="b", target="c")
    raise AssertionError(f"{table} is protected, and this test knows no row of it")


# On the database in use as the migrations left it: tests that empty it, and put the triggers back, run after these.
@pytest.mark.parametrize("table", TABLES)
def test_nobody_changes_or_deletes_a_row(table: str) -> None:
    """M5: neither the ORM nor SQL, whatever way it takes."""
    row = _row_of(table)
    model = type(row)
    column = next(field.name for field in model._meta.fields if field.get_internal_type() in ("CharField",))
    before = model._base_manager.filter(pk=row.pk).values().get()
    attempts: list[Callable[[], object]] = [
        lambda: row.save(),
        lambda: row.delete(),
        lambda: model._base_manager.filter(pk=row.pk).update(**{column: "x"}),
        lambda: model._base_manager.all()._raw_delete(using="default"),
        lambda: connection.cursor().execute(f"UPDATE {table} SET {column} = 'x'"),
        lambda: connection.cursor().execute(f"UPDATE {table} SET {column} = {column} WHERE id = {row.pk}"),
        lambda: connection.cursor().execute(f"DELETE FROM {table} WHERE id = {row.pk}"),
        lambda: connection.cursor().execute(
            f"INSERT OR REPLACE INTO {table} SELECT * FROM {table}"
            if connection.vendor == "sqlite"
            else f"SET CONSTRAINTS ALL IMMEDIATE; TRUNCATE {table} CASCADE"
        ),
    ]
    for attempt in attempts:
        pk = row.pk
        with pytest.raises(DatabaseError, match="added, never changed or deleted"), transaction.atomic():
            attempt()
        row.pk = pk
    assert model._base_manager.filter(pk=row.pk).values().get() == before


def test_each_table_of_money_that_is_never_changed_is_protected() -> None:
    assert set(TABLES) == {model._meta.db_table for model in (Price, LedgerEntry, ClosedMonth, AuditEntry)}
    assert set(TABLES) <= {model._meta.db_table for model in apps.get_app_config("billing_app").get_models()}


@pytest.mark.parametrize("table", TABLES)
def test_the_migrations_leave_the_triggers_in_place(table: str) -> None:
    """A migration that changes a column makes SQLite copy the table, without them: it has to protect it anew."""
    if connection.vendor == "sqlite":
        names = {f"{table}_no_update", f"{table}_no_delete", f"{table}_no_replace"}
        query = "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = %s"
    else:
        names = {f"{table}_immutable", f"{table}_kept"}
        query = "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal AND tgenabled = 'O' AND tgrelid = %s::regclass"
    with connection.cursor() as cursor:
        cursor.execute(query, [table])
        assert {name for (name,) in cursor.fetchall()} == names


def test_entries_outlive_batches_files_and_keys(account: Account, price: Price) -> None:
    key, _ = api_keys.issue(account)
    file = StoredFileFactory(account=account)
    batch = BatchFactory(account=account, price=price, api_key=key, source=file)
    use(account, price, batch_id=batch.public_id, api_key_id=key.pk)
    before = list(LedgerEntry.objects.values())
    api_key_id = key.pk
    batch.delete()
    file.delete()
    APIKey.objects.filter(pk=key.pk).delete()
    assert list(LedgerEntry.objects.values()) == before
    assert (before[0]["batch_id"], before[0]["api_key_id"]) == (batch.public_id, api_key_id)
    assert ledger.bill(batch.public_id).charged == Decimal("0.5")


def test_an_account_and_a_price_with_entries_cannot_go(account: Account, price: Price) -> None:
    use(account, price)
    for row in (account, price):
        with pytest.raises(IntegrityError), transaction.atomic():
            row.delete()


# Prepaid


def test_a_hold_takes_what_is_available_and_no_more(prepaid: Account) -> None:
    top_up(prepaid, "10")
    hold(prepaid, "batch_1", "9.999999999")
    with pytest.raises(ledger.NotCovered) as refused:
        hold(prepaid, "batch_2", "0.000000002")
    assert refused.value.available == Decimal("0.000000001")
    hold(prepaid, "batch_3", "0.000000001")
    assert stands(prepaid) == (0, 10)
    assert not Hold.objects.filter(batch_id="batch_2").exists()


def test_who_pays_by_statement_holds_nothing(account: Account) -> None:
    hold(account, "batch_1", "1000")
    release(account, "batch_1")
    assert not LedgerEntry.objects.exists()
    assert not Hold.objects.exists()


def test_usage_settles_the_hold_and_the_rest_is_given_back(prepaid: Account, price: Price) -> None:
    top_up(prepaid, "10")
    hold(prepaid, "batch_1", "3")
    assert use(prepaid, price, batch_id="batch_1") == frozenset()
    assert stands(prepaid) == (7, Decimal("2.5"))
    assert Hold.objects.get().left == Decimal("2.5")
    use(prepaid, price, batch_id="batch_1")
    assert stands(prepaid) == (7, 2)
    release(prepaid, "batch_1")
    assert stands(prepaid) == (9, 0)
    assert (Hold.objects.get().left, Hold.objects.get().placed) == (0, 3)
    kinds = LedgerEntry.objects.order_by("pk").values_list("kind", "amount", "held")
    assert list(kinds) == [
        ("top_up", 10, 0),
        ("hold_placed", 0, 3),
        ("usage", Decimal("-0.5"), Decimal("-0.5")),
        ("usage", Decimal("-0.5"), Decimal("-0.5")),
        ("hold_released", 0, -2),
    ]


def test_a_hold_serves_its_own_batch_alone(prepaid: Account, price: Price) -> None:
    top_up(prepaid, "10")
    hold(prepaid, "batch_1", "3")
    use(prepaid, price, batch_id="batch_2")
    assert stands(prepaid) == (Decimal("6.5"), 3)


def test_what_goes_beyond_the_hold_is_taken_from_the_credit(prepaid: Account, price: Price) -> None:
    top_up(prepaid, "10")
    hold(prepaid, "batch_1", "0.2")
    assert use(prepaid, price, batch_id="batch_1") == frozenset()
    assert stands(prepaid) == (Decimal("9.5"), 0)


def test_what_goes_beyond_hold_and_credit_is_billed_in_full_and_written_off(prepaid: Account, price: Price) -> None:
    """M4: the tokens are complete; the balance does not go below zero; the caller learns which batch to stop."""
    top_up(prepaid, "0.3")
    hold(prepaid, "batch_1", "0.2")
    hold(prepaid, "batch_2", "0.1")
    assert use(prepaid, price, batch_id="batch_1", key="checkpoint:x") == {"batch_1"}
    assert stands(prepaid) == (0, Decimal("0.1"))
    written_off = LedgerEntry.objects.get(kind=Kind.ADJUSTMENT)
    assert (written_off.amount, written_off.batch_id, written_off.month) == (Decimal("0.3"), "batch_1", "2026-11")
    bill = ledger.bill("batch_1")
    assert (bill.tokens, bill.charged) == (Tokens(input=1_000_000), Decimal("0.5"))
    assert use(prepaid, price, batch_id="batch_1", key="checkpoint:x") == frozenset()
    assert stands(prepaid) == (0, Decimal("0.1"))


def test_usage_that_takes_the_last_digit_is_covered(prepaid: Account, price: Price) -> None:
    top_up(prepaid, "0.5")
    assert use(prepaid, price) == frozenset()
    assert stands(prepaid) == (0, 0)
    assert not LedgerEntry.objects.filter(kind=Kind.ADJUSTMENT).exists()


def test_a_correction_takes_what_is_available_and_no_more(prepaid: Account) -> None:
    top_up(prepaid, "10")
    hold(prepaid, "batch_1", "4")
    with pytest.raises(ledger.NotCovered, match="6"):
        adjust(prepaid, "-6.01")
    adjust(prepaid, "-6")
    assert stands(prepaid) == (0, 4)


def test_who_pays_by_statement_may_owe(account: Account, price: Price) -> None:
    use(account, price)
    adjust(account, "-100")
    assert stands(account) == (Decimal("-100.5"), 0)
    assert not LedgerEntry.objects.filter(reason__contains="Written off").exists()


def test_who_owes_cannot_become_prepaid(account: Account, price: Price) -> None:
    use(account, price)
    with pytest.raises(ledger.NotCovered, match=r"-0\.5"):
        ledger.set_prepaid(account.pk, True)
    top_up(account, "0.5")
    ledger.set_prepaid(account.pk, True)
    assert Balance.objects.get().is_prepaid


def test_two_accounts_in_one_window_are_billed_each_its_own(price: Price) -> None:
    """M4, and the promise that no tenant is billed for another."""
    one, other = AccountFactory(), AccountFactory()
    usages = [
        ledger.Usage(f"checkpoint:{n}", account.pk, None, f"batch_{account.pk}", price, 1, Tokens(input=n * 10**6))
        for n, account in enumerate([other, one, other, one], start=1)
    ]
    ledger.record(usages, now=NOVEMBER)
    assert stands(one) == (-3, 0)
    assert stands(other) == (-2, 0)


# The month of an entry


@pytest.mark.parametrize(
    ("zone", "moment", "month"),
    [
        ("UTC", datetime(2026, 11, 30, 23, 59, 59, 999999, UTC), "2026-11"),
        ("UTC", datetime(2026, 12, 1, tzinfo=UTC), "2026-12"),
        ("Asia/Shanghai", datetime(2026, 11, 30, 15, 59, 59, 999999, UTC), "2026-11"),
        ("Asia/Shanghai", datetime(2026, 11, 30, 16, tzinfo=UTC), "2026-12"),
        ("America/New_York", datetime(2026, 12, 1, 4, 59, 59, tzinfo=UTC), "2026-11"),
        ("America/New_York", datetime(2026, 12, 1, 5, tzinfo=UTC), "2026-12"),
        ("Asia/Shanghai", datetime(2026, 12, 31, 16, tzinfo=UTC), "2027-01"),
    ],
)
def test_midnight_is_that_of_the_installation(
    account: Account, price: Price, settings: Any, zone: str, moment: datetime, month: str
) -> None:
    settings.TIME_ZONE = zone
    use(account, price, now=moment)
    assert LedgerEntry.objects.get().month == month
    assert months.beginning(month) <= moment < months.beginning(months.after(month))


def test_a_closed_month_takes_no_entry(account: Account, price: Price) -> None:
    ledger.lock(account.pk)
    Balance.objects.update(closed_through="2026-12")
    use(account, price, now=NOVEMBER)
    top_up(account, "1", now=NOVEMBER)
    adjust(account, "1", now=NOVEMBER + timedelta(days=365))
    assert list(LedgerEntry.objects.order_by("pk").values_list("month", flat=True)) == ["2027-01", "2027-01", "2027-11"]


@given(st.integers(1000, 9998), st.integers(1, 12))
def test_months_follow_each_other(year: int, number: int) -> None:
    month = f"{year}-{number:02d}"
    assert months.is_month(month)
    assert months.before(months.after(month)) == month
    assert months.after(month) > month
    assert months.is_month(months.after(month))
    assert months.beginning(month) < months.beginning(months.after(month))


@pytest.mark.parametrize(
    "text", ["2026-13", "2026-00", "2026-1", "26-11", "2026-11-01", "", "\uff12026-11", "2026-11\n"]
)
def test_what_is_no_month(text: str) -> None:
    assert not months.is_month(text)


# Usage adds up


def test_a_bill_is_the_sum_of_a_batchs_entries(account: Account, price: Price) -> None:
    """M1, M5: exact, and of usage alone."""
    parts = [Tokens(1, 0, 3, 1), Tokens(999_999_999, 5, 7, 2), Tokens(31, 3, 0, 0)]
    for tokens in parts:
        use(account, price, tokens, requests=2)
    use(account, price, batch_id="batch_2")
    total = sum(parts, Tokens())
    bill = ledger.bill("batch_1")
    assert (bill.requests, bill.tokens) == (6, total)
    assert bill.charged == charge(total, price.rates) == add(charge(tokens, price.rates) for tokens in parts)
    assert bill.list_amount == bill.charged * 2
