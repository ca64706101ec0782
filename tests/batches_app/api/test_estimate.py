"""`POST /batches/estimate`: a price before the run."""

from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone

from batches_app import routing
from batches_app.models import Batch, Shard
from billing_app import ledger, prices
from billing_app.models import Account, EnqueuedTokenLimit, Hold, LedgerEntry
from billing_app.pricing import Rates, Tokens
from tests.stack import CHAT, request_line
from tests.tenants import Tenant, error_of

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _served(db: None) -> None:
    route = routing.Route("http://127.0.0.1:9/v1", [CHAT], 4)
    routing.serve("m", route, Rates(Decimal(10), Decimal(100), Decimal("0.5")), now=timezone.now())


def content(count: int = 4, **body: Any) -> bytes:
    return "\n".join(request_line(str(n), "hi", **body) for n in range(count)).encode()


def estimate(tenant: Tenant, data: bytes, status: int = 200) -> dict[str, Any]:
    file = tenant.has_file(data)
    response = tenant.post("batches/estimate", {"input_file_id": file.public_id, "endpoint": CHAT})
    assert response.status_code == status, response.json()
    return dict(response.json())


def used(tenant: Tenant, tokens: Tokens, requests: int) -> None:
    price = prices.current("m", at=timezone.now())
    assert price is not None
    usage = ledger.Usage(f"{tenant.account} {tokens}", tenant.account.pk, None, "b", price, requests, tokens)
    ledger.record([usage], now=timezone.now())


def test_a_new_account_is_told_the_most_that_it_can_cost(owner: Tenant) -> None:
    found = estimate(owner, content(max_tokens=50))
    assert (found["model"], found["requests"], found["output_tokens_from"]) == ("m", 4, "max_tokens")
    assert found["most"]["output_tokens"] == found["likely"]["output_tokens"] == 200
    assert found["likely"]["input_tokens"] * 2 <= found["most"]["input_tokens"]
    for part in (found["likely"], found["most"]):
        amount = (part["input_tokens"] * Decimal(10) + part["output_tokens"] * Decimal(100)) / 10**6 / 2
        assert (Decimal(part["cost"]["amount"]), part["cost"]["currency"]) == (amount, "USD")
    assert (found["errors"], found["would_run"], found["obstacles"]) == (None, True, [])


def test_once_it_has_run_some_the_estimate_is_from_its_own_answers(owner: Tenant, stranger: Tenant) -> None:
    """Promise 3: from another's, nothing can be seen."""
    used(stranger, Tokens(1, 0, 40), 1)
    assert estimate(owner, content(max_tokens=50))["output_tokens_from"] == "max_tokens"
    used(owner, Tokens(1, 0, 30), 3)
    found = estimate(owner, content(max_tokens=50))
    assert (found["output_tokens_from"], found["likely"]["output_tokens"]) == ("history", 40)
    assert found["most"]["output_tokens"] == 200


def test_no_estimate_is_above_what_the_requests_allow(owner: Tenant) -> None:
    used(owner, Tokens(1, 0, 3000), 1)
    assert estimate(owner, content(max_tokens=50))["likely"]["output_tokens"] == 200


def test_nothing_is_created_or_reserved(owner: Tenant) -> None:
    ledger.set_prepaid(owner.account.pk, True)
    ledger.top_up(owner.account.pk, Decimal(5), key="k", reason="", made_by="t", now=timezone.now())
    estimate(owner, content())
    assert not Batch.objects.exists()
    assert not Shard.objects.exists()
    assert not Hold.objects.exists()
    assert LedgerEntry.objects.count() == 1


def test_a_file_with_mistakes_has_them_all_and_no_cost(owner: Tenant) -> None:
    found = estimate(owner, content(1) + b"\n{broken\n" + content(1))
    assert [(error["code"], error["line"]) for error in found["errors"]["data"]] == [
        ("invalid_json_line", 2),
        ("duplicate_custom_id", 3),
    ]
    assert (found["likely"], found["most"], found["would_run"]) == (None, None, False)


def test_what_would_stand_in_its_way_is_said(owner: Tenant) -> None:
    """Credit, enqueued tokens, active batches: with the same words as when it happens."""
    ledger.set_prepaid(owner.account.pk, True)
    ledger.top_up(owner.account.pk, Decimal("0.00001"), key="k", reason="", made_by="t", now=timezone.now())
    EnqueuedTokenLimit.objects.create(account=owner.account, model_name="m", tokens=1)
    Account.objects.update(max_active_batches=0)
    found = estimate(owner, content())
    assert found["would_run"] is False
    assert [obstacle["code"] for obstacle in found["obstacles"]] == [
        "quota_exceeded",
        "token_limit_exceeded",
        "insufficient_quota",
    ]
    assert "may cost up to" in found["obstacles"][2]["message"]


def test_another_accounts_file_is_not_there(owner: Tenant, stranger: Tenant) -> None:
    """C7: answered as one that does not exist."""
    theirs = stranger.has_file(content()).public_id
    for file_id in (theirs, "file-batch-nothing"):
        error = error_of(owner.post("batches/estimate", {"input_file_id": file_id, "endpoint": CHAT}), 404)
        assert error["message"] == f"No such File object: {file_id}"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"endpoint": CHAT}, "input_file_id"),
        ({"input_file_id": "f"}, "endpoint"),
        ({"input_file_id": "f", "endpoint": "/v1/nothing"}, "endpoint"),
        ({"input_file_id": 1, "endpoint": CHAT}, "input_file_id"),
    ],
)
def test_bad_requests(owner: Tenant, body: dict[str, Any], param: str) -> None:
    assert error_of(owner.post("batches/estimate", body), 400)["param"] == param
