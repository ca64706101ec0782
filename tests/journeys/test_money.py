"""Credit, budgets and statements through the real service."""

import json
import time
from decimal import Decimal
from typing import Any

import openai
import pytest

from tests.fake_upstream import FakeUpstream
from tests.stack import Stack, assert_whole, chat_input, completed, start_batch, wait_for

NONE = (Decimal(0), Decimal(0))  # held, and open holds
BALANCE = """
from billing_app.models import *
balance = Balance.objects.get(account__name='acme')
print(balance.available, balance.held, Hold.objects.filter(released_at=None).count())
"""


def standing(stack: Stack) -> tuple[Decimal, Decimal, Decimal]:
    """What is available, what is held, and how many holds are open."""
    available, held, holds = (Decimal(number) for number in stack.shell(BALANCE).split())
    return available, held, holds


def prepaid(stack: Stack, amount: str) -> Any:
    client = stack.new_client("acme")
    stack.manage("create_account", "acme", "--prepaid")
    stack.manage("credit", "acme", amount, "--reason", "invoice 1")
    return client


def test_a_prepaid_account_pays_from_its_credit(stack: Stack, upstream: FakeUpstream) -> None:
    """M1: reserved at validation, settled as it runs, the rest given back; without credit, 429 at once."""
    upstream.control.set(latency_ms=100)
    stack.serve(upstream.url)
    client = stack.new_client("acme")
    stack.manage("create_account", "acme", "--prepaid")
    with pytest.raises(openai.RateLimitError) as refused:
        start_batch(client, chat_input(1))
    assert refused.value.code == "insufficient_quota"
    stack.manage("credit", "acme", "5", "--reason", "invoice 1")
    batch = wait_for(client, start_batch(client, chat_input(1000)), "in_progress")
    available, held, holds = standing(stack)
    assert available < 5
    assert held > 0
    assert holds == 1
    batch = wait_for(client, batch)
    assert_whole(stack, client, batch, [str(n) for n in range(1000)])
    cost = Decimal(batch.cost["amount"])
    assert cost > 0
    assert standing(stack) == (5 - cost, *NONE)


def test_a_balance_that_cannot_cover_the_worst_case_fails_the_batch(stack: Stack, upstream: FakeUpstream) -> None:
    stack.serve(upstream.url)
    client = prepaid(stack, "0.001")
    batch = wait_for(client, start_batch(client, chat_input(1000)))
    assert [error.code for error in batch.errors.data] == ["insufficient_quota"]
    assert upstream.control.calls() == {}
    assert standing(stack) == (Decimal("0.001"), *NONE)


def test_holds_outlive_every_process_and_end_with_their_batch(impatient: Stack, upstream: FakeUpstream) -> None:
    """Promise 1: kill -9 of everything in mid-run; what was not used is given back once, by who finishes the batch."""
    upstream.control.set(latency_ms=100)
    impatient.serve(upstream.url)
    client = prepaid(impatient, "5")
    batch = wait_for(client, start_batch(client, chat_input(1500)), "in_progress")
    while completed(client, batch) == 0:
        time.sleep(0.02)
    impatient.kill_everything()
    impatient.start()
    batch = wait_for(client, batch)
    assert_whole(impatient, client, batch, [str(n) for n in range(1500)])
    assert standing(impatient) == (5 - Decimal(batch.cost["amount"]), *NONE)


def test_what_was_used_beyond_the_credit_stops_the_batch_and_is_written_off(
    stack: Stack, upstream: FakeUpstream
) -> None:
    """M1, M4: billed in full, the balance never below zero, and no more lines sent than were under way."""
    upstream.control.set(latency_ms=50, usage={"prompt_tokens": 10, "completion_tokens": 1_000_000})
    stack.serve(upstream.url)
    client = prepaid(stack, "2")
    batch = wait_for(client, start_batch(client, chat_input(1000)))
    assert batch.status == "cancelled"
    assert batch.request_counts.completed < 500
    assert_whole(stack, client, batch, [str(n) for n in range(1000)])
    assert Decimal(batch.cost["amount"]) > 2
    assert standing(stack) == (Decimal(0), *NONE)


def test_a_statement_leads_from_the_month_to_the_output_file(stack: Stack, upstream: FakeUpstream) -> None:
    """One line for each batch, which adds up to what the ledger has."""
    stack.serve(upstream.url)
    client = prepaid(stack, "5")
    batches = [wait_for(client, start_batch(client, chat_input(200))) for _ in range(2)]
    month = stack.shell(
        "from billing_app import months; from django.utils import timezone;print(months.containing(timezone.now()))"
    )
    statement = json.loads(stack.run("statement", "acme", month, "--format", "json"))
    lines = {line["batch_id"]: line for line in statement["usage"]}
    assert set(lines) == {batch.id for batch in batches}
    for batch in batches:
        assert lines[batch.id]["requests"] == 200
        assert lines[batch.id]["output_tokens"] == batch.usage.output_tokens
        assert client.batches.retrieve(batch.id).output_file_id
