"""What a tenant is asked to pay: every line rounded once, lines that add up, and not a byte that changes later."""

import csv
import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from hypothesis import given, settings
from hypothesis import strategies as st

from billing_app import api_keys, closing, ledger, prices, statements
from billing_app.models import Account, LedgerEntry, Price
from billing_app.pricing import Rates, Tokens, charge, list_amount, round_money
from billing_app.statement_formats import TABLE, as_csv, as_json, as_text
from files_app import retention
from tests.books import DECEMBER, NOVEMBER, adjust, hold, release, stands, top_up, use
from tests.factories import AccountFactory, BatchFactory, PriceFactory, StoredFileFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def account() -> Account:
    made: Account = AccountFactory(created_at=NOVEMBER)
    return made


@pytest.fixture
def price() -> Price:
    """M1: 0.15 and 0.60 a million, half of it for a batch."""
    made: Price = PriceFactory()
    return made


def _statement(account: Account, month: str = "2026-11", now: datetime = DECEMBER) -> statements.Statement:
    return statements.of(account, month, now=now)


def _charged(account: Account) -> Decimal:
    (line,) = _statement(account).usage
    return line.charged


def _table(statement: statements.Statement) -> list[dict[str, str]]:
    return list(csv.DictReader(StringIO(as_csv(statement), newline="")))


# Amounts


def test_a_line_is_a_batchs_usage_of_the_month(account: Account, price: Price) -> None:
    """M1, M5"""
    use(account, price, Tokens(10_000_000, 4_000_000, 3_000_000, 1_000_000), requests=40)
    use(account, price, Tokens(input=10_000_000), requests=2)
    use(account, price, batch_id="batch_2")
    statement = _statement(account)
    assert statement.usage[0] == statements.UsageLine(
        batch_id="batch_1",
        model="m",
        requests=42,
        tokens=Tokens(20_000_000, 4_000_000, 3_000_000, 1_000_000),
        list_amount=Decimal("4.80"),
        charged=Decimal("2.40"),
    )
    assert [line.batch_id for line in statement.usage] == ["batch_1", "batch_2"]
    assert statement.totals.charged == Decimal("2.48")
    assert (statement.opening, statement.closing) == (Decimal("0.00"), Decimal("-2.48"))


def test_fifty_thousand_short_lines_bill_what_their_sum_is(account: Account, price: Price) -> None:
    """M5: each of them, and each entry, is far below a cent; rounded one by one they would cost nothing."""
    line = Tokens(input=100, output=25)  # 0.000015
    entries, lines = 500, 100
    each = Tokens(input=line.input * lines, output=line.output * lines)
    assert round_money(charge(each, price.rates)) == 0
    usages = [ledger.Usage(f"c:{n}", account.pk, None, "batch_1", price, lines, each) for n in range(entries)]
    ledger.record(usages, now=NOVEMBER)
    (statement_line,) = _statement(account).usage
    assert statement_line.requests == 50_000
    assert statement_line.charged == Decimal("0.75")


def test_half_of_a_price_is_not_rounded(account: Account, price: Price) -> None:
    """M1, M5: half of 0.15 is 0.075 a million; kept with two decimals, 0.08, it would bill 6.7 % too much."""
    use(account, price, Tokens(input=1_000_000))
    assert LedgerEntry.objects.get().amount == Decimal("-0.075")
    use(account, price, Tokens(input=99_000_000))
    assert _charged(account) == Decimal("7.50")


@pytest.mark.parametrize(
    ("tokens", "charged", "listed"),
    [(66_666, "0.00", "0.01"), (66_667, "0.01", "0.01"), (200_000, "0.02", "0.03"), (199_999, "0.01", "0.03")],
)
def test_a_line_is_rounded_half_up_and_adds_up(
    account: Account, price: Price, tokens: int, charged: str, listed: str
) -> None:
    """M5: list and charged each from the exact sum; the discount is what is between them."""
    use(account, price, Tokens(input=tokens))
    (line,) = _statement(account).usage
    assert (str(line.charged), str(line.list_amount)) == (charged, listed)
    assert line.list_amount - line.discount == line.charged


def test_a_batch_that_spans_two_months_has_a_line_in_each(account: Account, price: Price) -> None:
    use(account, price, Tokens(input=20_000_000))
    use(account, price, Tokens(input=40_000_000), now=DECEMBER)
    november, december = _statement(account), _statement(account, "2026-12")
    assert [(line.batch_id, line.charged) for line in november.usage] == [("batch_1", Decimal("1.50"))]
    assert [(line.batch_id, line.charged) for line in december.usage] == [("batch_1", Decimal("3.00"))]
    assert december.opening == november.closing == Decimal("-1.50")


def test_top_ups_and_adjustments_have_lines_and_holds_have_none(account: Account) -> None:
    ledger.set_prepaid(account.pk, True)
    top_up(account, "10", reason="invoice 7")
    hold(account, "batch_1", "3")
    release(account, "batch_1")
    adjust(account, "-0.505", reason="rebate taken back")
    statement = _statement(account)
    assert statement.usage == ()
    assert statement.credits == (
        statements.CreditLine(date(2026, 11, 20), "top_up", "", "invoice 7", Decimal("10.00")),
        statements.CreditLine(date(2026, 11, 20), "adjustment", "", "rebate taken back", Decimal("-0.51")),
    )
    assert (statement.totals.top_ups, statement.totals.adjustments) == (Decimal("10.00"), Decimal("-0.51"))


def test_what_was_written_off_names_its_batch(account: Account, price: Price) -> None:
    ledger.set_prepaid(account.pk, True)
    use(account, price, Tokens(input=20_000_000))
    (line,) = _statement(account).credits
    assert (line.kind, line.batch_id, line.amount) == ("adjustment", "batch_1", Decimal("1.50"))
    assert _statement(account).closing == 0


def test_a_day_is_that_of_the_installation(account: Account, settings: Any) -> None:
    settings.TIME_ZONE = "Asia/Shanghai"
    top_up(account, "1", now=datetime(2026, 11, 30, 16, tzinfo=UTC))
    assert _statement(account, "2026-12").credits[0].date == date(2026, 12, 1)


def test_other_accounts_are_not_on_it(account: Account, price: Price) -> None:
    other = AccountFactory(created_at=NOVEMBER)
    use(other, price)
    top_up(other, "10")
    statement = _statement(account)
    assert (statement.usage, statement.credits, statement.closing) == ((), (), Decimal("0.00"))


def test_lines_that_do_not_add_up_get_a_line_that_makes_them(account: Account, price: Price) -> None:
    """Three lines of 0.014 each are 0.01, and their sum is 0.04."""
    for number in range(3):
        use(account, price, Tokens(input=186_667), batch_id=f"batch_{number}")
    statement = _statement(account)
    assert [line.charged for line in statement.usage] == [Decimal("0.01")] * 3
    assert (statement.closing, statement.rounding) == (Decimal("-0.04"), Decimal("-0.01"))
    assert [row["amount"] for row in _table(statement) if row["line"] == "rounding"] == ["-0.01"]
    assert "Rounding" in as_text(statement, "acme")


rates = st.builds(Rates, st.decimals(0, 20, places=7), st.decimals(0, 20, places=7), st.decimals(0, 1, places=3))
moves = st.lists(
    st.tuples(
        st.integers(0, 12),
        st.sampled_from(["use", "use", "top_up", "adjust"]),
        st.integers(0, 3),
        st.integers(1, 10**7),
        rates,
    ),
    max_size=10,
)


@settings(max_examples=25)
@given(moves, st.booleans())
def test_opening_and_all_lines_are_closing(steps: list[Any], is_closed: bool) -> None:
    """M5: in Python, in JSON and in CSV, for months open and closed; and months follow each other without a gap."""
    account, now = AccountFactory(created_at=NOVEMBER), NOVEMBER
    batch_prices: dict[int, Price] = {}
    for days, kind, number, size, of_batch in steps:
        now += timedelta(days=days)
        if kind == "use":
            if number not in batch_prices:
                batch_prices[number], _ = prices.set_price(f"m{number}", of_batch, now)
            use(account, batch_prices[number], Tokens(size, size // 2, size // 3), batch_id=f"batch_{number}", now=now)
        elif kind == "top_up":
            top_up(account, str(Decimal(size).scaleb(-5)), now=now)
        else:
            adjust(account, str(Decimal(-size).scaleb(-5)), now=now)
    after = now + timedelta(days=62)
    if is_closed:
        closing.close_due(after)
    opening, month = Decimal(0), "2026-11"
    while month <= f"{now:%Y-%m}":
        statement = _statement(account, month, after)
        assert statement.closed is is_closed
        assert statement.opening == opening
        assert abs(statement.rounding) <= Decimal("0.005") * (2 + len(statement.usage) + len(statement.credits))
        _adds_up(statement)
        opening, month = statement.closing, f"{datetime.fromisoformat(month + '-01') + timedelta(days=31):%Y-%m}"
    assert opening == (round_money(Decimal(sum(stands(account)))) if steps else 0)


def _adds_up(statement: statements.Statement) -> None:
    moved = sum((line.amount for line in statement.credits), Decimal(0)) - sum(
        (line.charged for line in statement.usage), Decimal(0)
    )
    assert statement.opening + moved + statement.rounding == statement.closing
    table = _table(statement)
    amounts = sum((Decimal(row["amount"]) for row in table if row["amount"]), Decimal(0))
    assert Decimal(table[0]["balance"]) + amounts == Decimal(table[-1]["balance"]) == statement.closing
    for row in table:
        if row["line"] == "usage":
            assert Decimal(row["list_amount"]) - Decimal(row["discount"]) == Decimal(row["charged"])
    body = json.loads(as_json(statement))
    totals = {name: Decimal(value) for name, value in body["totals"].items()}
    assert totals["charged"] == sum((Decimal(line["charged"]) for line in body["usage"]), Decimal(0))
    assert totals["list_amount"] - totals["discount"] == totals["charged"]
    total = totals["top_ups"] + totals["adjustments"] - totals["charged"] + Decimal(body["rounding"])
    assert Decimal(body["opening_balance"]) + total == Decimal(body["closing_balance"])


# What a closed month's statement is made of


def test_nothing_changes_the_statement_of_a_closed_month(account: Account, price: Price) -> None:
    """M5: no repricing, deleting, revoking, no later usage and no late item changes a byte of it."""
    key, _ = api_keys.issue(account)
    file = StoredFileFactory(account=account)
    batch = BatchFactory(account=account, price=price, api_key=key, source=file, model_name="m")
    top_up(account, "10.005")
    use(account, price, Tokens(66_667, 5, 7, 1), batch_id=batch.public_id, api_key_id=key.pk)
    adjust(account, "-0.001")
    closing.close_due(DECEMBER)
    before = [render(_statement(account)) for render in (as_csv, as_json)]
    assert '"closed": true' in before[1]

    prices.set_price("m", Rates(Decimal(99), Decimal(99), Decimal(1)), DECEMBER)
    api_keys.revoke(key, now=DECEMBER)
    use(account, price, batch_id=batch.public_id, api_key_id=key.pk, now=DECEMBER)
    use(account, price, batch_id=batch.public_id, api_key_id=key.pk, now=NOVEMBER)
    top_up(account, "99", now=NOVEMBER)
    retention.delete_file(file, now=DECEMBER)
    batch.delete()
    key.delete()
    Account.objects.update(name="renamed", monthly_budget=Decimal(1), weight=3)
    closing.close_due(DECEMBER + timedelta(days=62))
    account = Account.objects.get(pk=account.pk)
    later = DECEMBER + timedelta(days=62)
    assert [render(_statement(account, now=later)) for render in (as_csv, as_json)] == before


def test_it_is_made_with_the_same_few_queries_for_any_number_of_entries(account: Account, price: Price) -> None:
    counts = set()
    for entries in (1, 20):
        for number in range(entries):
            use(account, price, batch_id=f"batch_{number % 4}")
            top_up(account, "1")
        with CaptureQueriesContext(connection) as queries:
            _statement(account)
        counts.add(len(queries))
    assert len(counts) == 1
    assert counts.pop() <= 10


def test_a_month_that_is_open_shows_what_it_came_to_so_far(account: Account, price: Price) -> None:
    use(account, price, Tokens(input=20_000_000))
    statement = _statement(account, now=NOVEMBER)
    assert (statement.closed, statement.closing) == (False, Decimal("-1.50"))


def test_opening_of_an_open_month_counts_months_that_are_not_closed_yet(account: Account, price: Price) -> None:
    use(account, price, Tokens(input=20_000_000))
    closing.close_due(DECEMBER)
    use(account, price, Tokens(input=20_000_000), now=DECEMBER)
    later = DECEMBER + timedelta(days=31)
    assert _statement(account, "2027-01", later).opening == Decimal("-3.00")


@pytest.mark.parametrize(
    ("month", "sentence"),
    [
        ("november", "A month looks like 2026-12, not 'november'"),
        ("2026-13", "not '2026-13'"),
        ("2026-10", "from 2026-11 to 2026-12, none for 2026-10"),
        ("2027-01", "from 2026-11 to 2026-12, none for 2027-01"),
    ],
)
def test_a_month_without_a_statement(account: Account, month: str, sentence: str) -> None:
    with pytest.raises(statements.NoStatement, match=sentence):
        _statement(account, month)


# Formats


def test_json_has_amounts_as_strings(account: Account, price: Price) -> None:
    use(account, price, Tokens(20_000_000, 4, 0, 0), requests=3)
    top_up(account, "10")
    body = json.loads(as_json(_statement(account)))
    assert body == {
        "object": "statement",
        "account_id": account.pk,
        "month": "2026-11",
        "currency": "USD",
        "closed": False,
        "opening_balance": "0.00",
        "usage": [
            {
                "batch_id": "batch_1",
                "model": "m",
                "requests": 3,
                "input_tokens": 20_000_000,
                "cached_tokens": 4,
                "output_tokens": 0,
                "reasoning_tokens": 0,
                "list_amount": "3.00",
                "discount": "1.50",
                "charged": "1.50",
            }
        ],
        "credits": [
            {"date": "2026-11-20", "kind": "top_up", "batch_id": None, "reason": "paid", "amount": "10.00"},
        ],
        "rounding": "0.00",
        "totals": {
            "requests": 3,
            "input_tokens": 20_000_000,
            "cached_tokens": 4,
            "output_tokens": 0,
            "reasoning_tokens": 0,
            "list_amount": "3.00",
            "discount": "1.50",
            "charged": "1.50",
            "top_ups": "10.00",
            "adjustments": "0.00",
        },
        "closing_balance": "8.50",
    }


def test_csv_is_one_table_with_a_header(account: Account, price: Price) -> None:
    use(account, price, Tokens(input=20_000_000), batch_id="batch_" + "a" * 32)
    adjust(account, "-2", reason='for "März", once\nmore')
    table = _table(_statement(account))
    assert [row["line"] for row in table] == ["opening", "usage", "adjustment", "closing"]
    assert table[1]["batch_id"] == "batch_" + "a" * 32
    assert (table[1]["charged"], table[1]["amount"]) == ("1.50", "-1.50")
    assert (table[2]["amount"], table[2]["reason"]) == ("-2.00", 'for "März", once\nmore')
    assert {row["currency"] for row in table} == {"USD"}
    assert (table[0]["balance"], table[3]["balance"]) == ("0.00", "-3.50")


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", " =", "\uff1d"])
def test_csv_holds_no_formulas_and_its_numbers_stay_numbers(account: Account, start: str) -> None:
    text = f"{start}HYPERLINK(1)"
    price = PriceFactory(model_name=text)
    use(account, price, Tokens(input=20_000_000), batch_id=text)
    adjust(account, "-2", reason=text)
    _, usage, adjustment, _ = _table(_statement(account))
    assert (usage["model"], usage["batch_id"], adjustment["reason"]) == (f"'{text}",) * 3
    assert (usage["amount"], adjustment["amount"]) == ("-1.50", "-2.00")
    assert json.loads(as_json(_statement(account)))["usage"][0]["model"] == text


def test_no_amount_is_less_than_nothing_by_nothing(account: Account, price: Price) -> None:
    use(account, price, Tokens(input=1))
    adjust(account, "-0.001")
    for text in (as_csv(_statement(account)), as_json(_statement(account)), as_text(_statement(account), "acme")):
        assert "-0.00" not in text


def test_text_is_for_reading(account: Account, price: Price) -> None:
    use(account, price, Tokens(input=20_000_000), batch_id="batch_" + "a" * 32)
    top_up(account, "10", reason="invoice 7")
    lines = as_text(_statement(account), "acme").splitlines()
    assert lines[0] == "acme: 2026-11, in USD (still open: amounts so far)"
    assert lines[2].split() == list(TABLE)
    assert lines[3].split() == ["batch_" + "a" * 32, "m", "1", "20000000", "0", "0", "0", "3.00", "1.50", "1.50"]
    assert lines[4].split() == ["Total", "1", "20000000", "0", "0", "0", "3.00", "1.50", "1.50"]
    assert [line.split()[-1] for line in lines[6:]] == ["0.00", "-1.50", "10.00", "8.50"]
    assert "2026-11-20 top-up" in lines[8]
    assert "invoice 7" in lines[8]


def test_the_sum_over_the_month_is_that_of_the_entries(account: Account) -> None:
    """What the database added up as tokens is what the entries say, under any price of a cached token too."""
    price = PriceFactory(cached_input_price=Decimal("0.0123456789"), batch_discount=Decimal("0.333333"))
    parts = [Tokens(7, 3, 5, 1), Tokens(10**9 + 7, 10**8 + 9, 10**9 + 21, 4), Tokens(1, 1, 0, 0)]
    for tokens in parts:
        use(account, price, tokens)
    total = sum(parts, Tokens())
    (line,) = _statement(account).usage
    assert line.charged == round_money(ledger.bill("batch_1").charged)
    assert line.list_amount == round_money(list_amount(total, price.rates))
