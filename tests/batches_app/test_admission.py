"""Whether a batch may be created, and may run: active batches, credit, budget, enqueued tokens."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from batches_app import admission, finalization, lifecycle, queue, routing
from batches_app.inspection import inspect
from batches_app.models import Batch
from batches_app.states import Status
from batches_app.validation import validate
from billing_app import authentication, ledger
from billing_app.models import Account, Balance, EnqueuedTokenLimit, Hold, LedgerEntry
from billing_app.pricing import Rates, Tokens
from tests.factories import BY_TENANT
from tests.stack import CHAT, request_line
from tests.tenants import Tenant, error_of
from tests.threads import at_once

pytestmark = pytest.mark.django_db
RATES = Rates(Decimal(10), Decimal(100), Decimal("0.5"))


@pytest.fixture(autouse=True)
def _silent_bells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "ring", lambda *_, **__: None)


@pytest.fixture
def tenant(db: None) -> Tenant:
    serve("m", RATES)
    return Tenant("acme")


def serve(name: str, rates: Rates, **route: Any) -> None:
    wanted: dict[str, Any] = {
        "upstream_url": "http://127.0.0.1:9/v1",
        "endpoints": [CHAT],
        "max_concurrency": 4,
    } | route
    routing.serve(name, routing.Route(**wanted), rates, now=timezone.now())


def credit(tenant: Tenant, amount: str) -> None:
    """The account is prepaid, with so much available."""
    ledger.set_prepaid(tenant.account.pk, True)
    key = f"credit {tenant.account.pk} {amount}"
    ledger.top_up(tenant.account.pk, Decimal(amount), key=key, reason="", made_by="t", now=timezone.now())


def lines(count: int = 1, **body: Any) -> bytes:
    return "\n".join(request_line(str(n), "hi", **body) for n in range(count)).encode()


def validated(tenant: Tenant, content: bytes, endpoint: str = CHAT) -> Batch:
    file = tenant.has_file(content)
    batch = Batch.objects.get(
        public_id=tenant.create_batch(input_file_id=file.public_id, endpoint=endpoint).json()["id"]
    )
    validate(batch.pk)
    batch.refresh_from_db()
    return batch


def worst_case(tenant: Tenant, content: bytes) -> Decimal:
    """By hand: half a token a byte of the bodies, and max_tokens, at half price."""
    bodies = sum(len(json.dumps(json.loads(line)["body"])) for line in content.splitlines())
    found = inspect(tenant.has_file(content), CHAT, at=timezone.now())
    assert bodies <= found.body_bytes <= bodies + 20 * found.requests
    output = sum(int(json.loads(line)["body"].get("max_tokens", 4096)) for line in content.splitlines())
    return (-(-found.body_bytes // 2) * Decimal(10) + output * Decimal(100)) / 10**6 / 2


def test_a_prepaid_batch_reserves_its_worst_case(tenant: Tenant) -> None:
    """What may be spent is less by input estimate + max_tokens, at the price of the batch."""
    credit(tenant, "1")
    content = lines(3, max_tokens=100)
    batch = validated(tenant, content)
    balance, amount = Balance.objects.get(), worst_case(tenant, content)
    assert batch.status == Status.IN_PROGRESS
    assert (balance.available, balance.held) == (1 - amount, amount)
    assert Hold.objects.get().batch_id == batch.public_id


@pytest.mark.parametrize(("missing", "status"), [("0", "in_progress"), ("0.000001", "failed")])
def test_credit_for_exactly_the_worst_case_is_enough(tenant: Tenant, missing: str, status: str) -> None:
    content = lines(2, max_tokens=50)
    credit(tenant, str(worst_case(tenant, content) - Decimal(missing)))
    batch = validated(tenant, content)
    assert batch.status == status
    if status == "failed":
        assert [error["code"] for error in batch.errors] == ["insufficient_quota"]
        assert "of the account's credit are available" in batch.errors[0]["message"]
        assert not Hold.objects.exists()
        assert LedgerEntry.objects.filter(kind="hold_placed").count() == 0
        assert not batch.shards.exists()


def test_a_postpaid_batch_reserves_nothing(tenant: Tenant) -> None:
    assert validated(tenant, lines()).status == Status.IN_PROGRESS
    assert not Hold.objects.exists()


def test_a_free_model_needs_no_credit(tenant: Tenant) -> None:
    """M2: a prepaid account that has nothing can try the built-in model."""
    ledger.set_prepaid(tenant.account.pk, True)
    line = request_line("1", "hi", "batch-test-model", "/v1/chat/ds-test").encode()
    assert validated(tenant, line, "/v1/chat/ds-test").status == Status.IN_PROGRESS
    assert not Hold.objects.exists()


def test_failed_validation_leaves_no_hold(tenant: Tenant) -> None:
    credit(tenant, "1")
    assert validated(tenant, lines() + b"\n{broken").status == Status.FAILED
    assert not Hold.objects.exists()
    assert Balance.objects.get().available == 1


def test_what_a_cancelled_batch_did_not_use_is_given_back(tenant: Tenant) -> None:
    credit(tenant, "1")
    batch = validated(tenant, lines())
    lifecycle.cancel(batch, BY_TENANT, now=timezone.now())
    for _ in range(2):
        finalization.finalize(batch.pk)
    balance = Balance.objects.get()
    assert (balance.available, balance.held) == (1, 0)
    assert LedgerEntry.objects.filter(kind="hold_released").count() == 1


def test_a_batch_whose_price_changes_keeps_its_own(tenant: Tenant) -> None:
    """M1: from creation on, also where the price changes before validation."""
    batch = Batch.objects.get(
        public_id=tenant.create_batch(input_file_id=tenant.has_file(lines()).public_id, endpoint=CHAT).json()["id"]
    )
    serve("m", Rates(Decimal(1000), Decimal(1000), Decimal(1)))
    validate(batch.pk)
    batch.refresh_from_db()
    assert batch.price is not None
    assert batch.price.rates == RATES


# How much the answers may have


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        ({}, 4096),
        ({"max_tokens": 7}, 7),
        ({"max_completion_tokens": 7}, 7),
        ({"max_output_tokens": 7}, 7),
        ({"max_tokens": 7, "max_completion_tokens": 9}, 9),
        ({"max_tokens": 7, "n": 3}, 21),
        ({"max_tokens": 7, "n": 2, "best_of": 4}, 28),
        ({"n": 2}, 8192),
        ({"max_tokens": 7, "enable_thinking": True, "thinking_budget": 100}, 107),
        ({"max_tokens": 7, "thinking_budget": 100}, 7),
        ({"max_tokens": "7"}, 7),
        ({"max_tokens": 7.0}, 7),
        ({"max_tokens": 7.5}, 4096),
        ({"max_tokens": 0}, 4096),
        ({"max_tokens": 7, "n": "3"}, 21),
        ({"max_tokens": 7, "prompt": "one"}, 7),
        ({"max_tokens": 7, "prompt": ["one", "two"]}, 14),
        ({"max_tokens": 7, "prompt": [1, 2, 3]}, 7),
        ({"prompt": [[1], [2]], "n": 2}, 4 * 4096),
        ({"max_tokens": None}, 4096),
        ({"max_tokens": True}, 4096),
        ({"max_tokens": -1}, 4096),
        ({"max_tokens": 10**30}, 100_000_000),
    ],
)
def test_the_most_that_an_answer_may_have(tenant: Tenant, body: dict[str, Any], tokens: int) -> None:
    assert inspect(tenant.has_file(lines(**body)), CHAT, at=timezone.now()).output_tokens == tokens


def test_a_model_says_how_long_its_answers_are(tenant: Tenant) -> None:
    serve("m", RATES, context_tokens=5000)
    assert inspect(tenant.has_file(lines(2)), CHAT, at=timezone.now()).output_tokens == 10_000
    serve("m", RATES, context_tokens=5000, max_output_tokens=50)
    assert inspect(tenant.has_file(lines(2)), CHAT, at=timezone.now()).output_tokens == 100


def test_cached_input_that_is_dearer_is_reserved(tenant: Tenant) -> None:
    """A worst case is one."""
    serve("m", replace(RATES, cached_input=Decimal(20)))
    credit(tenant, "1")
    content = lines(max_tokens=1)
    needed = admission.need(inspect(tenant.has_file(content), CHAT, at=timezone.now()))
    validated(tenant, content)
    assert Balance.objects.get().held == (needed.most.input * Decimal(20) + Decimal(100)) / 10**6 / 2


# At creation


def test_without_credit_no_batch_is_created(tenant: Tenant) -> None:
    """429 `insufficient_quota`, which the SDK does not retry (C4)."""
    ledger.set_prepaid(tenant.account.pk, True)
    response = tenant.create_batch()
    error = error_of(response, 429)
    assert (error["type"], error["code"]) == ("insufficient_quota", "insufficient_quota")
    assert response["x-should-retry"] == "false"
    assert not Batch.objects.exists()


def test_a_repeated_creation_is_answered_though_the_credit_is_used_up(tenant: Tenant) -> None:
    """C5: the same key, the same object."""
    first = tenant.create_batch(idempotency_key="k").json()
    ledger.set_prepaid(tenant.account.pk, True)
    assert tenant.create_batch(idempotency_key="k").json() == first


def spend(tenant: Tenant, amount: str) -> None:
    price = Batch.objects.select_related("price").get(pk=validated(tenant, lines()).pk).price
    assert price is not None
    tokens = Tokens(int(Decimal(amount) * 2 * 10**6 / 10))
    usage = ledger.Usage(f"spend {amount}", tenant.account.pk, tenant.api_key.pk, "b", price, 1, tokens)
    ledger.record([usage], now=timezone.now())


@pytest.mark.parametrize(("spent", "status"), [("0.9999", 200), ("1", 429), ("1.0001", 429)])
def test_a_hard_budget_stops_new_batches_once_it_is_used_up(tenant: Tenant, spent: str, status: int) -> None:
    spend(tenant, spent)
    Account.objects.update(monthly_budget=Decimal(1))
    assert tenant.create_batch().status_code == 200
    Account.objects.update(budget_is_hard=True)
    assert remembering_nothing(tenant.create_batch).status_code == status


@pytest.mark.parametrize(("spent", "status"), [("0.9999", 200), ("1", 429)])
def test_a_keys_limit_stops_its_new_batches_and_no_others(tenant: Tenant, spent: str, status: int) -> None:
    spend(tenant, spent)
    tenant.api_key.monthly_limit = Decimal(1)
    tenant.api_key.save()
    assert remembering_nothing(tenant.create_batch).status_code == status


@pytest.mark.parametrize(("active", "status"), [(1, 200), (2, 403), (3, 403)])
def test_active_batches_are_limited(tenant: Tenant, active: int, status: int) -> None:
    """403 `quota_exceeded`; what has ended does not count."""
    Account.objects.update(max_active_batches=2)
    for _ in range(active):
        tenant.has_batch(status="in_progress")
    tenant.has_batch(status="completed")
    response = remembering_nothing(tenant.create_batch)
    assert response.status_code == status
    if status == 403:
        assert error_of(response, 403)["code"] == "quota_exceeded"
        assert f"may have 2 active batches, and {active} are active" in response.json()["error"]["message"]


def remembering_nothing(call: Callable[[], Any]) -> Any:
    authentication.forget()
    return call()


@pytest.mark.parametrize(("more", "status"), [(1, "in_progress"), (0, "in_progress"), (-1, "failed")])
def test_enqueued_tokens_are_limited(tenant: Tenant, more: int, status: str) -> None:
    """V12, at N-1, N and N+1."""
    content = lines(20)
    tokens = admission.need(inspect(tenant.has_file(content), CHAT, at=timezone.now())).enqueued
    first = validated(tenant, content)
    EnqueuedTokenLimit.objects.create(account=tenant.account, model_name="m", tokens=2 * tokens + more)
    assert first.status == Status.IN_PROGRESS
    second = validated(tenant, content)
    assert second.status == status
    if status == "failed":
        assert [error["code"] for error in second.errors] == ["token_limit_exceeded"]


# At the same time


@pytest.mark.django_db(transaction=True)
def test_of_50_batches_against_a_balance_that_covers_7_exactly_7_run(tenant: Tenant) -> None:
    content = lines(2, max_tokens=100)
    amount = worst_case(tenant, content)
    credit(tenant, str(amount * 7 + amount / 2))
    file = tenant.has_file(content)
    batches = [tenant.has_batch(input_file_id=file.public_id, source=file, endpoint=CHAT).pk for _ in range(50)]
    at_once([partial(validate, pk) for pk in batches])
    statuses = list(Batch.objects.values_list("status", flat=True))
    assert (statuses.count("in_progress"), statuses.count("failed")) == (7, 43)
    balance = Balance.objects.get()
    assert (balance.available, balance.held) == (amount / 2, amount * 7)
    assert Hold.objects.filter(released_at=None).count() == 7


@pytest.mark.django_db(transaction=True)
def test_of_20_batches_that_race_for_3_active_places_exactly_3_are_created(tenant: Tenant) -> None:
    Account.objects.update(max_active_batches=3)
    tenant.account.refresh_from_db()
    new = lifecycle.NewBatch(CHAT, "file-batch-x", "24h", timedelta(hours=24))

    def create() -> bool:
        try:
            return bool(lifecycle.create(tenant.account, tenant.api_key, new, now=timezone.now()))
        except admission.TooManyBatches:
            return False

    assert sum(at_once([create] * 20)) == Batch.objects.count() == 3


@pytest.mark.django_db(transaction=True)
def test_charges_and_top_ups_at_once_add_up(tenant: Tenant) -> None:
    """Balance = sum of entries, whatever came between reading and writing it."""
    credit(tenant, "1")
    price = Batch.objects.select_related("price").get(pk=validated(tenant, lines()).pk).price
    assert price is not None

    def charge(number: int) -> None:
        with transaction.atomic():
            usage = ledger.Usage(f"u{number}", tenant.account.pk, None, "b", price, 1, Tokens(10))
            ledger.record([usage], now=timezone.now())

    def top_up(number: int) -> None:
        amount = Decimal("0.01")
        ledger.top_up(tenant.account.pk, amount, key=f"t{number % 5}", reason="", made_by="t", now=timezone.now())

    at_once([partial(book, n) for book in (charge, top_up) for n in range(20)])
    balance = Balance.objects.get()
    total = sum(LedgerEntry.objects.values_list("amount", flat=True), Decimal(0))
    assert balance.available + balance.held == total == 1 + 5 * Decimal("0.01") - 20 * Decimal("0.00005")
