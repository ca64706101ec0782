"""Usage and spend: amounts to the last digit, found by days, account and model, and taken along as CSV."""

import csv
import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone

from billing_app import months
from billing_app.models import Account, AuditEntry, Price
from billing_app.pricing import Tokens
from tests.books import NOVEMBER, use
from tests.factories import AccountFactory, PriceFactory
from tests.operators import signed_in

pytestmark = pytest.mark.django_db
USAGE, CSV = "/console/usage", "/console/usage.csv"
MILLION = 10**6
NOVEMBERS = {"from": "2026-11-01", "to": "2026-11-30"}
HOSTILE = '=<script>alert(1)</script>\u202e"'


@pytest.fixture
def acme() -> Account:
    made: Account = AccountFactory(name="acme")
    return made


@pytest.fixture
def price() -> Price:
    """A million input tokens cost 0.5, at half of the list price."""
    made: Price = PriceFactory(model_name="small", input_price=Decimal(1), output_price=Decimal(2))
    return made


@pytest.fixture
def november(acme: Account, price: Price) -> None:
    """In all 3.5: acme 0.5 and 1 of small, 1.5 of large; bert 0.5."""
    large = PriceFactory(model_name="large", input_price=Decimal(3))
    use(acme, price, Tokens(MILLION, 1000, 0, 0))
    use(acme, price, Tokens(0, 0, MILLION, 700), now=NOVEMBER + timedelta(days=1))
    use(acme, large, Tokens(input=MILLION))
    use(AccountFactory(name="bert"), price, Tokens(input=MILLION))


def opened(query: dict[str, str], client: Client | None = None) -> Any:
    answer = (client or signed_in("viewer")).get(USAGE, query)
    assert answer.status_code == 200
    return answer


def days(page: Any) -> tuple[date, date]:
    period = page.context["period"]
    return period.first, period.last


def tables(query: dict[str, str]) -> dict[str, dict[str, Decimal]]:
    found = opened(query).context["tables"]
    return {table.by: {row.name: row.bill.charged for row in table.rows} for table in found}


def lines(query: dict[str, str]) -> list[list[str]]:
    answer = signed_in("viewer").get(CSV, query)
    assert answer.status_code == 200
    assert answer.streaming
    text = b"".join(answer).decode("utf-8-sig")
    return list(csv.reader(StringIO(text, newline="")))


# What is added up


@pytest.mark.usefixtures("november")
def test_it_is_told_by_account_by_model_and_by_day() -> None:
    """What was charged the most on top; of days the latest."""
    half = Decimal("0.5")
    found = tables(NOVEMBERS)
    assert list(found["account"].items()) == [("acme", Decimal(3)), ("bert", half)]
    assert list(found["model"].items()) == [("small", Decimal(2)), ("large", Decimal("1.5"))]
    assert list(found["day"].items()) == [("2026-11-21", Decimal(1)), ("2026-11-20", Decimal("2.5"))]


@pytest.mark.usefixtures("november")
def test_the_tiles_are_the_sum() -> None:
    page = opened(NOVEMBERS)
    total = page.context["total"]
    assert (total.charged, total.list_amount, total.requests) == (Decimal("3.5"), Decimal(7), 4)
    assert total.tokens == Tokens(3 * MILLION, 1000, MILLION, 700)
    for text in ("3.50", "7.00", "3,000,000", "1,000 of them cached (&lt;0.1 %)", "700 of them reasoning"):
        assert text in page.content.decode()


def test_the_smallest_amount_is_neither_lost_nor_shown_as_nothing(acme: Account) -> None:
    tiny = PriceFactory(input_price=Decimal("0.000000000001"), output_price=Decimal(0))
    use(acme, tiny, Tokens(input=3))
    page = opened(NOVEMBERS)
    assert page.context["total"].charged == Decimal("0.0000000000000000015")
    assert 'title="0.0000000000000000015"' in page.content.decode()
    assert lines(NOVEMBERS)[1][-1] == "0.0000000000000000015"


@pytest.mark.usefixtures("november")
@pytest.mark.parametrize(
    ("query", "charged"),
    [
        ({"account": "acme"}, "3"),
        ({"model": "small"}, "2"),
        ({"account": "acme", "model": "small"}, "1.5"),
        ({"account": "bert", "model": "large"}, "0"),
        ({"model": "unknown"}, "0"),
        ({"from": "2026-11-21", "to": "2026-11-21"}, "1"),
        ({"from": "2026-11-20", "to": "2026-11-20"}, "2.5"),
        ({"from": "2026-11-22"}, "0"),
    ],
)
def test_a_filter_leaves_out_the_rest(query: dict[str, str], charged: str) -> None:
    query = {"from": "2026-11-01", "to": "2026-11-30"} | query
    assert opened(query).context["total"].charged == Decimal(charged)


@pytest.mark.usefixtures("november")
def test_what_is_chosen_is_no_table() -> None:
    assert list(tables(NOVEMBERS | {"account": "acme"})) == ["model", "day"]
    assert list(tables(NOVEMBERS | {"model": "small"})) == ["account", "day"]
    assert list(tables({"from": "2026-11-20", "to": "2026-11-20"})) == ["account", "model"]


@pytest.mark.usefixtures("november")
def test_a_row_leads_to_its_own_usage() -> None:
    client = signed_in("viewer")
    for table in opened(NOVEMBERS, client).context["tables"]:
        for row in table.rows:
            page = client.get(f"{USAGE}?{row.query}")
            assert page.context["total"] == row.bill


@pytest.mark.usefixtures("november")
def test_the_chart_has_each_day_and_the_models_that_cost_most(price: Price, acme: Account) -> None:
    for number in range(5):
        use(acme, PriceFactory(model_name=f"other {number}"), Tokens(input=1))
    page = opened(NOVEMBERS).content.decode()
    assert page.count('class="chart-hit"') == 30
    legend = page[page.index('<ul class="legend">') :].partition("</ul>")[0]
    assert [name in legend for name in ("small", "large", "other 0", "other 1", "Other models")] == [
        *(True, True, True, False, True)
    ]
    assert "<title>2026-11-20\nsmall: 1.00 USD\nlarge: 1.50 USD" in page


# Which days


def test_it_begins_with_this_month(acme: Account, price: Price) -> None:
    now = timezone.now()
    use(acme, price, now=now)
    use(acme, price, now=months.beginning(months.containing(now)) - timedelta(seconds=1))
    page = opened({})
    assert page.context["total"].charged == Decimal("0.5")
    assert days(page) == (now.date().replace(day=1), now.date())
    assert [preset.is_on for preset in page.context["presets"]].count(True) >= 1


def test_presets_lead_to_their_days(acme: Account, price: Price, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timezone, "now", lambda: datetime(2026, 3, 2, 12, tzinfo=UTC))
    client = signed_in("viewer")
    presets = opened({"model": "small"}, client).context["presets"]
    periods = [days(client.get(f"{USAGE}?{preset.query}")) for preset in presets]
    assert periods == [
        (date(2026, 3, 2), date(2026, 3, 2)),
        (date(2026, 2, 24), date(2026, 3, 2)),
        (date(2026, 3, 1), date(2026, 3, 2)),
        (date(2026, 2, 1), date(2026, 2, 28)),
    ]
    assert all("model=small" in preset.query for preset in presets)
    chosen = client.get(f"{USAGE}?{presets[3].query}").context["presets"]
    assert [preset.is_on for preset in chosen] == [False, False, False, True]


def test_days_are_those_of_the_installation_whoever_looks(acme: Account, price: Price, settings: Any) -> None:
    settings.TIME_ZONE = "Asia/Shanghai"
    use(acme, price, now=datetime(2026, 11, 20, 16, 30, tzinfo=UTC))
    client = signed_in("viewer")
    client.cookies["timezone"] = "America/New_York"
    page = opened({"from": "2026-11-21", "to": "2026-11-21"}, client)
    assert page.context["total"].requests == 1
    assert "days of Asia/Shanghai" in page.content.decode()
    assert lines({"from": "2026-11-21", "to": "2026-11-21"})[0][0] == "day (Asia/Shanghai)"


def test_one_end_is_enough() -> None:
    assert days(opened({"to": "2026-11-20"})) == (date(2026, 11, 1), date(2026, 11, 20))
    ahead = timezone.now().date() + timedelta(days=9)
    assert days(opened({"from": f"{ahead}"})) == (ahead, ahead)


@pytest.mark.parametrize(
    "query",
    [
        {"from": "yesterday"},
        {"from": "2026-02-30"},
        {"to": "20261101"},
        {"from": "2026-11-02", "to": "2026-11-01"},
        {"from": "2025-11-01", "to": "2026-11-02"},
        {"from": "0001-01-01"},
        {"account": "nobody"},
        {"account": "a\0b"},
        {"model": "a\0b"},
        {"model": "m" * 201},
        {"sort": "charged"},
        {"by": "account"},
    ],
)
def test_what_cannot_be_read_is_said(query: dict[str, str]) -> None:
    client = signed_in("viewer")
    answer = client.get(USAGE, query)
    assert answer.status_code == 400
    assert 'role="alert"' in answer.content.decode()
    assert answer.context["form"].errors
    if "by" not in query:
        assert client.get(CSV, query).status_code == 400


def test_the_same_filter_twice_is_said() -> None:
    assert signed_in("viewer").get(f"{USAGE}?model=a&model=b").status_code == 400


def test_the_longest_time_is_a_leap_year() -> None:
    assert len(opened({"from": "2023-11-02", "to": "2024-11-01"}).context["period"].days) == 366
    assert opened({"from": "9999-12-01", "to": "9999-12-31"}).context["total"].requests == 0
    assert opened({"from": "0001-01-01", "to": "0001-01-01"}).context["total"].requests == 0


def test_what_a_form_leaves_empty_is_not_in_the_address() -> None:
    answer = signed_in("viewer").get(USAGE, {"from": "2026-11-01", "to": "", "account": "", "model": "m"})
    assert answer.headers["Location"] == f"{USAGE}?from=2026-11-01&model=m"


def test_nothing_used_yet_is_said_with_what_to_do() -> None:
    assert "as soon as their first results are stored" in opened({}).content.decode()
    assert "Choose other days" in opened(NOVEMBERS).content.decode()


# As CSV


@pytest.mark.usefixtures("november")
def test_the_tables_as_csv() -> None:
    counts = ["requests", "input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens"]
    amounts = ["list price (USD)", "charged (USD)"]
    days = ["2026-11-01", "2026-11-30"]
    assert lines(NOVEMBERS | {"by": "account"}) == [
        ["from (UTC)", "to (UTC)", "account", *counts, *amounts],
        [*days, "acme", "3", "2000000", "1000", "1000000", "700", "6", "3"],
        [*days, "bert", "1", "1000000", "0", "0", "0", "1", "0.5"],
    ]
    assert [row[2] for row in lines(NOVEMBERS | {"by": "model"})] == ["model", "large", "small"]
    assert [(row[0], row[-1]) for row in lines(NOVEMBERS | {"by": "day"})] == [
        ("day (UTC)", "charged (USD)"),
        ("2026-11-20", "2.5"),
        ("2026-11-21", "1"),
    ]
    assert [row[:3] for row in lines(NOVEMBERS)] == [
        ["day (UTC)", "account", "model"],
        ["2026-11-20", "acme", "large"],
        ["2026-11-20", "acme", "small"],
        ["2026-11-20", "bert", "small"],
        ["2026-11-21", "acme", "small"],
    ]
    assert [row[2] for row in lines(NOVEMBERS | {"account": "acme", "by": "model"})[1:]] == ["large", "small"]
    assert signed_in("viewer").get(CSV, {"by": "moon"}).status_code == 400


def test_a_name_is_no_formula_and_no_markup() -> None:
    use(AccountFactory(name=HOSTILE[:100]), PriceFactory(model_name=HOSTILE))
    page = opened(NOVEMBERS).content.decode()
    assert "<script>alert" not in page
    assert "\u202e" not in re.sub(r"<datalist.*?</datalist>", "", page, flags=re.DOTALL)
    assert lines(NOVEMBERS)[1][1:3] == [f"'{HOSTILE}", f"'{HOSTILE}"]


# Who may, and what it costs


@pytest.mark.usefixtures("november")
def test_statements_are_for_who_may_download_them(acme: Account) -> None:
    """Of all accounts for the month that is looked at; of one for each month."""
    billing = signed_in("billing", "bo")
    link = f'href="/console/accounts/{acme.pk}/statement/2026-11.csv"'
    assert link in opened(NOVEMBERS, billing).content.decode()
    assert "/statement/" not in opened({"from": "2026-10-31", "to": "2026-11-30"}, billing).content.decode()
    assert "/statement/" not in opened(NOVEMBERS).content.decode()
    month = months.containing(timezone.now())
    of_acme = opened({"account": "acme"}, billing).content.decode()
    assert f"/console/accounts/{acme.pk}/statement/{month}.json" in of_acme


def test_a_statement_is_downloaded_as_csv_and_as_json(acme: Account) -> None:
    month = months.containing(timezone.now())
    address = f"/console/accounts/{acme.pk}/statement/"
    billing = signed_in("billing", "bo")
    answer = billing.get(f"{address}{month}.csv")
    assert answer["Content-Disposition"] == f'attachment; filename="statement-{acme.pk}-{month}.csv"'
    assert answer["Cache-Control"] == "no-store"
    assert answer.content.startswith(b"account_id,month,")
    assert billing.get(f"{address}{month}.json").json()["month"] == month
    told = AuditEntry.objects.order_by("id").values_list("actor", "action", "account", "changes")
    assert list(told) == [
        ("bo", "statement.downloaded", "acme", {"file": [None, f"{month}.{kind}"]}) for kind in ("csv", "json")
    ]
    for file in ("2001-01.csv", f"{month}.pdf", "x.csv", month, f"{month}.csv.exe"):
        assert billing.get(f"{address}{file}").status_code == 404
    for unknown in (acme.pk + 1, 10**30):
        assert billing.get(f"/console/accounts/{unknown}/statement/{month}.csv").status_code == 404
    assert signed_in("viewer").get(f"{address}{month}.csv").status_code == 403
    assert billing.post(f"{address}{month}.csv").status_code == 405


def test_who_may_not_see_money_is_refused() -> None:
    user = User.objects.create_user("vic", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_account"))
    client = Client()
    client.force_login(user)
    assert [client.get(address).status_code for address in (USAGE, CSV)] == [403, 403]


def test_it_takes_as_many_queries_for_any_number_of_rows(
    price: Price, acme: Account, django_assert_max_num_queries: Any
) -> None:
    for number in range(12):
        use(AccountFactory(), PriceFactory(model_name=f"m{number}"), now=NOVEMBER + timedelta(days=number % 5))
    use(acme, price)
    client = signed_in("billing", "bo")
    for query in ({}, NOVEMBERS, NOVEMBERS | {"account": "acme"}, NOVEMBERS | {"model": "m1"}):
        with django_assert_max_num_queries(12):
            opened(query, client)
