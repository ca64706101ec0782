"""GET /v1/usage and /v1/costs: a tenant's own use, in the shape of OpenAI's usage API."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from openai.types.admin.organization import UsageCompletionsResponse, UsageCostsResponse

from billing_app.api.views import Costs, Usage
from billing_app.models import LedgerEntry, Price
from billing_app.pricing import Tokens, add, minus
from config.api.scopes import Scope
from tests.books import adjust, top_up, use
from tests.factories import PriceFactory
from tests.tenants import Tenant, error_of

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
DAY = 86_400
MIDNIGHT = int(datetime(2026, 11, 20, tzinfo=UTC).timestamp())
REPORTS = pytest.mark.parametrize("report", ["usage", "costs"])


@pytest.fixture
def owner() -> Tenant:
    return Tenant("owner")


@pytest.fixture
def price() -> Price:
    made: Price = PriceFactory(model_name="m1")
    return made


def page(tenant: Tenant, report: str, **query: Any) -> Any:
    response = tenant.get(report, {"start_time": MIDNIGHT, "end_time": MIDNIGHT + DAY} | query)
    assert response.status_code == 200, response.content
    return json.loads(response.content, parse_float=Decimal)


def test_usage_in_one_bucket(owner: Tenant, price: Price) -> None:
    use(owner.account, price, Tokens(100, 40, 30, 10), requests=7, now=NOON)
    use(owner.account, price, Tokens(1, 0, 2, 0), requests=1, batch_id="batch_2", now=NOON)
    assert page(owner, "usage") == {
        "object": "page",
        "data": [
            {
                "object": "bucket",
                "start_time": MIDNIGHT,
                "end_time": MIDNIGHT + DAY,
                "results": [
                    {
                        "object": "organization.usage.completions.result",
                        "input_tokens": 101,
                        "output_tokens": 32,
                        "input_cached_tokens": 40,
                        "input_audio_tokens": 0,
                        "output_audio_tokens": 0,
                        "num_model_requests": 8,
                        "project_id": None,
                        "user_id": None,
                        "api_key_id": None,
                        "model": None,
                        "batch": True,
                        "service_tier": None,
                    }
                ],
            }
        ],
        "has_more": False,
        "next_page": None,
    }


def test_costs_in_one_bucket(owner: Tenant, price: Price) -> None:
    use(owner.account, price, Tokens(input=1_000_000), now=NOON)
    (bucket,) = page(owner, "costs")["data"]
    assert bucket["results"] == [
        {
            "object": "organization.costs.result",
            "amount": {"value": Decimal("0.075"), "currency": "usd"},
            "line_item": None,
            "project_id": None,
        }
    ]


@pytest.mark.parametrize("group_by", ["line_item", "model", "line_item,model"])
def test_costs_by_line_item_are_by_model(owner: Tenant, price: Price, group_by: str) -> None:
    use(owner.account, PriceFactory(model_name="m2"), Tokens(input=2_000_000), now=NOON)
    use(owner.account, price, Tokens(input=1_000_000), now=NOON)
    (bucket,) = page(owner, "costs", group_by=group_by)["data"]
    found = [(result["line_item"], result["amount"]["value"]) for result in bucket["results"]]
    assert found == [("m1", Decimal("0.075")), ("m2", Decimal("0.15"))]


def test_a_model_that_was_repriced_is_one_result(owner: Tenant, price: Price) -> None:
    use(owner.account, price, Tokens(input=1_000_000), now=NOON)
    use(owner.account, PriceFactory(model_name="m1", input_price=Decimal(1)), Tokens(input=1_000_000), now=NOON)
    (bucket,) = page(owner, "costs", group_by="line_item")["data"]
    assert [result["amount"]["value"] for result in bucket["results"]] == [Decimal("0.575")]


def test_days_are_those_of_utc_and_cut_to_the_range(owner: Tenant, price: Price, settings: Any) -> None:
    settings.TIME_ZONE = "Asia/Shanghai"
    midnight = datetime(2026, 11, 21, tzinfo=UTC)
    for tokens, now in [
        (1, NOON),
        (2, midnight - timedelta(microseconds=1)),
        (4, midnight),
        (8, midnight + timedelta(days=2)),
    ]:
        use(owner.account, price, Tokens(input=tokens), now=now)
    end = MIDNIGHT + 3 * DAY + 3600
    data = page(owner, "usage", start_time=MIDNIGHT + 3600, end_time=end, group_by="day")["data"]
    assert [(bucket["start_time"], bucket["end_time"]) for bucket in data] == [
        (MIDNIGHT + 3600, MIDNIGHT + DAY),
        (MIDNIGHT + DAY, MIDNIGHT + 2 * DAY),
        (MIDNIGHT + 2 * DAY, MIDNIGHT + 3 * DAY),
        (MIDNIGHT + 3 * DAY, end),
    ]
    assert [[result["input_tokens"] for result in bucket["results"]] for bucket in data] == [[3], [4], [], [8]]


@pytest.mark.parametrize(
    "query", [{"group_by": "model,day"}, {"group_by": ["day", "model"]}, {"group_by[]": ["model", "day"]}]
)
def test_by_model_and_day(owner: Tenant, price: Price, query: dict[str, Any]) -> None:
    other = PriceFactory(model_name="m2")
    use(owner.account, price, Tokens(input=1), now=NOON)
    use(owner.account, other, Tokens(input=2), now=NOON)
    use(owner.account, other, Tokens(input=4), now=NOON + timedelta(days=1))
    data = page(owner, "usage", end_time=MIDNIGHT + 2 * DAY, **query)["data"]
    found = [[(result["model"], result["input_tokens"]) for result in bucket["results"]] for bucket in data]
    assert found == [[("m1", 1), ("m2", 2)], [("m2", 4)]]


def test_the_start_is_in_and_the_end_is_out(owner: Tenant, price: Price) -> None:
    start = datetime.fromtimestamp(MIDNIGHT, UTC)
    for tokens, seconds in [(1, -0.000001), (2, 0), (4, 59.999999), (8, 60)]:
        use(owner.account, price, Tokens(input=tokens), now=start + timedelta(seconds=seconds))
    (bucket,) = page(owner, "usage", end_time=MIDNIGHT + 60)["data"]
    assert bucket["results"][0]["input_tokens"] == 6


def test_without_an_end_it_is_all_until_now(owner: Tenant, price: Price) -> None:
    now = datetime.now(UTC)
    use(owner.account, price, Tokens(input=5), now=now)
    response = owner.get("usage", {"start_time": int(now.timestamp()) - 60})
    (bucket,) = response.json()["data"]
    assert bucket["results"][0]["input_tokens"] == 5
    assert 0 < bucket["end_time"] - now.timestamp() < 30


@REPORTS
def test_nothing_used_is_a_bucket_without_results(owner: Tenant, report: str) -> None:
    assert [bucket["results"] for bucket in page(owner, report, group_by="model")["data"]] == [[]]
    assert [bucket["results"] for bucket in page(owner, report, group_by="day")["data"]] == [[]]


@REPORTS
def test_another_accounts_use_is_not_shown(owner: Tenant, price: Price, report: str) -> None:
    """C7"""
    use(Tenant("stranger").account, price, now=NOON)
    assert page(owner, report)["data"][0]["results"] == []


@pytest.mark.parametrize("group_by", ["", "line_item", "day", "line_item,day"])
def test_costs_are_the_ledgers_to_the_last_digit(owner: Tenant, group_by: str) -> None:
    """M5: more digits than a float has. Credit, corrections and holds are no costs."""
    prices = [
        PriceFactory(model_name=f"m{n % 2}", input_price=Decimal("123456.123456789"), batch_discount=Decimal(discount))
        for n, discount in enumerate(["0.333333333333", "0.5", "1"])
    ]
    for number in range(12):
        tokens = Tokens(999_999_999_999 + number, number, 10**12 + 7 * number, 0)
        use(owner.account, prices[number % 3], tokens, now=NOON + timedelta(hours=7 * number))
    top_up(owner.account, "10", now=NOON)
    adjust(owner.account, "-1", now=NOON)
    data = page(owner, "costs", end_time=MIDNIGHT + 10 * DAY, group_by=group_by)["data"]
    values = [Decimal(result["amount"]["value"]) for bucket in data for result in bucket["results"]]
    booked = minus(add(LedgerEntry.objects.filter(kind="usage").values_list("amount", flat=True)))
    assert add(values) == booked
    assert len(booked.as_tuple().digits) > 17


def test_an_amount_is_a_plain_number(owner: Tenant) -> None:
    price = PriceFactory(input_price=Decimal("0.000001"))
    use(owner.account, price, Tokens(input=1), now=NOON)
    response = owner.get("costs", {"start_time": MIDNIGHT, "end_time": MIDNIGHT + DAY})
    assert b'"value":0.0000000000005,' in response.content


def test_the_sdks_own_types_take_it(owner: Tenant, price: Price) -> None:
    use(owner.account, price, Tokens(100, 40, 30, 10), now=NOON)
    usage = UsageCompletionsResponse.model_validate(page(owner, "usage", group_by="model,day"))
    costs = UsageCostsResponse.model_validate(page(owner, "costs", group_by="line_item"))
    result, cost = usage.data[0].results[0], costs.data[0].results[0]
    assert result.object == "organization.usage.completions.result"
    assert (result.input_tokens, result.input_cached_tokens, result.model) == (100, 40, "m1")
    assert cost.object == "organization.costs.result"
    assert cost.amount is not None
    assert cost.amount.value == pytest.approx(0.0000165)


@REPORTS
@pytest.mark.parametrize(
    ("query", "param", "message"),
    [
        ({}, "start_time", "Missing required parameter: 'start_time'."),
        ({"start_time": ""}, "start_time", "Missing required parameter: 'start_time'."),
        ({"start_time": "yesterday"}, "start_time", "'yesterday'"),
        ({"start_time": "-1"}, "start_time", "'-1'"),
        ({"start_time": "1.5"}, "start_time", "'1.5'"),
        ({"start_time": "9" * 18}, "start_time", "integers from 0"),
        ({"start_time": "9" * 5000}, "start_time", "integers from 0"),
        ({"start_time": "4102444800"}, "start_time", "'4102444800'"),
        ({"start_time": "5", "end_time": "x"}, "end_time", "'x'"),
        ({"start_time": "5", "end_time": "5"}, "end_time", "'start_time' is before 'end_time'"),
        ({"start_time": "5", "end_time": "4"}, "end_time", "'start_time' is before 'end_time'"),
        ({"start_time": "5", "group_by": "user_id"}, "group_by", "'user_id'"),
        ({"start_time": "5", "group_by": "model,week"}, "group_by", "'week'"),
        ({"start_time": "5", "group_by": ["day", "m\ud7ffdel"]}, "group_by", "Supported values are"),
        ({"start_time": "0", "end_time": "15552001", "group_by": "day"}, "start_time", "up to 180 days"),
    ],
)
def test_a_bad_value_is_named(owner: Tenant, report: str, query: dict[str, Any], param: str, message: str) -> None:
    error = error_of(owner.get(report, query), 400)
    assert error["param"] == param
    assert message in error["message"]
    assert error["code"] in ("missing_required_parameter", "invalid_value")


def test_line_item_is_a_word_of_costs_alone(owner: Tenant) -> None:
    assert (
        "'model', 'day'" in error_of(owner.get("usage", {"start_time": "5", "group_by": "line_item"}), 400)["message"]
    )


def test_the_longest_range_by_day_and_a_longer_one_in_all(owner: Tenant) -> None:
    assert len(page(owner, "usage", start_time=0, end_time=180 * DAY, group_by="day")["data"]) == 180
    assert len(page(owner, "usage", start_time=0, end_time=253_370_764_800)["data"]) == 1


@REPORTS
def test_who_may_ask_and_how(report: str) -> None:
    tenant = Tenant("owner")
    error_of(tenant.get(report, {"start_time": "5"}, Authorization="Bearer sk-wrong"), 401)
    error_of(tenant.post(report), 405)
    assert tenant.get(report, {"start_time": "5"}, Accept="application/binary").status_code == 200


def test_both_count_as_usage_for_the_rate_limit() -> None:
    assert Usage.scopes == Costs.scopes == {"get": Scope.USAGE}


def test_it_takes_as_many_queries_for_any_number_of_entries(owner: Tenant, price: Price) -> None:
    counts = set()
    for entries in (1, 30):
        for number in range(entries):
            use(owner.account, price, batch_id=f"batch_{number}", now=NOON)
        with CaptureQueriesContext(connection) as queries:
            page(owner, "costs", group_by="line_item,day")
        counts.add(len([query for query in queries if "ledgerentry" in query["sql"]]))
    assert counts == {1}
