"""From upload to download through the real service: web, workers, Redis, an HTTP upstream, the openai SDK."""

from pathlib import Path

import openai
import pytest

from tests.fake_upstream import FakeUpstream
from tests.stack import Stack, assert_whole, chat_input, completed, request_line, result_lines, start_batch, wait_for

# As somebody could who may do everything in the database: not even a shell changes an entry before.
FALSIFY = """
from django.db import IntegrityError, connection, transaction
from billing_app import immutability
from billing_app.models import LedgerEntry
try:
    with transaction.atomic():
        LedgerEntry.objects.update(input_tokens=1, amount=-1)
    raise SystemExit("the ledger was changed")
except IntegrityError:
    pass
with connection.schema_editor() as editor:
    immutability.unprotect_all(None, editor)
LedgerEntry.objects.update(input_tokens=1, amount=-1)
"""


def test_a_batch_runs_from_upload_to_download(stack: Stack, upstream: FakeUpstream, tmp_path: Path) -> None:
    """B1, B5, F4, M1, M4: the SDK script of the documentation, on a served model."""
    stack.serve(upstream.url)
    client = stack.new_client()
    batch = wait_for(client, start_batch(client, chat_input(600)))
    assert batch.status == "completed"
    assert batch.error_file_id is None
    assert_whole(stack, client, batch, [str(n) for n in range(600)])
    client.files.content(batch.output_file_id).write_to_file(tmp_path / "out.jsonl")
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 600
    assert set(upstream.control.calls().values()) == {1}


def test_failures_of_all_kinds_become_error_lines_and_cost_nothing(stack: Stack, upstream: FakeUpstream) -> None:
    """R1, R3, R4, M2: a 400, a 500 that repeats, HTML with 200, a truncated answer; missing usage is flagged."""
    control = upstream.control
    control.set(match="cid:3 ", status=400)
    control.set(match="cid:5 ", status=500)
    control.set(match="cid:7 ", fault="html")
    control.set(match="cid:9 ", fault="truncated")
    control.set(match="cid:11 ", usage="missing")
    control.set(match="cid:13 ", usage={"prompt_tokens": -5, "completion_tokens": 0})
    control.set(match="cid:15 ", status=500, times=2)
    stack.serve(upstream.url)
    client = stack.new_client()
    batch = wait_for(client, start_batch(client, chat_input(20)))
    assert_whole(stack, client, batch, [str(n) for n in range(20)])
    errors = {line["custom_id"]: line for line in result_lines(client, batch.error_file_id)}
    assert set(errors) == {"3", "5", "7", "9"}
    assert errors["3"]["response"]["status_code"] == 400
    assert errors["3"]["error"] is None
    assert errors["5"]["response"]["status_code"] == 500
    assert errors["7"]["response"] is None
    assert errors["7"]["error"]["code"] == "invalid_response"
    assert stack.manage("billing_reconcile")["flagged_requests"] == 2
    calls = control.calls()
    assert (calls["3"], calls["5"], calls["15"]) == (1, 5, 3)


def test_streamed_answers_are_put_together_and_billed(stack: Stack, upstream: FakeUpstream) -> None:
    """R2: `stream: true` gives the object of the non-streaming call, with usage."""
    stack.serve(upstream.url)
    client = stack.new_client()
    data = "\n".join(request_line(str(n), f"cid:{n} hi", stream=n % 2 == 0) for n in range(10)).encode()
    batch = wait_for(client, start_batch(client, data))
    assert_whole(stack, client, batch, [str(n) for n in range(10)])
    bodies = [line["response"]["body"] for line in result_lines(client, batch.output_file_id)]
    assert {body["object"] for body in bodies} == {"chat.completion"}
    assert all(body["usage"]["completion_tokens"] for body in bodies)


def test_an_answer_reaches_the_tenant_byte_for_byte(stack: Stack, upstream: FakeUpstream) -> None:
    """R1: odd but valid JSON is not written anew."""
    upstream.control.set(format="odd")
    stack.serve(upstream.url)
    client = stack.new_client()
    batch = wait_for(client, start_batch(client, chat_input(1)))
    assert "1.0e0" in client.files.content(batch.output_file_id).text


def test_a_file_with_mistakes_fails_with_all_of_them_and_sends_nothing(stack: Stack, upstream: FakeUpstream) -> None:
    """V1-V7, M2: every violation in file order; nothing runs."""
    stack.serve(upstream.url)
    client = stack.new_client()
    lines = [request_line("a", "hi"), "{broken", request_line("a", "again"), request_line("b", "x", model="nobody")]
    batch = wait_for(client, start_batch(client, "\n".join(lines).encode()))
    assert batch.status == "failed"
    assert [(error.code, error.line) for error in batch.errors.data] == [
        ("invalid_json_line", 2),
        ("duplicate_custom_id", 3),
        ("model_not_found", 4),
        ("mismatched_model", 4),
    ]
    assert upstream.control.calls() == {}


def test_a_missing_file_fails_the_batch_not_the_call(stack: Stack) -> None:
    """V11: the batch is created, then fails with `invalid_request`, param `file_id`."""
    client = stack.new_client()
    batch = client.batches.create(
        input_file_id="file-batch-nothing", endpoint="/v1/chat/completions", completion_window="24h"
    )
    batch = wait_for(client, batch)
    assert [(error.code, error.param) for error in batch.errors.data] == [("invalid_request", "file_id")]


def test_cancelling_keeps_what_succeeded_and_names_the_rest(stack: Stack, upstream: FakeUpstream) -> None:
    """B8, B10, M3: what finished is in the output file and billed; the rest is named in the error file."""
    upstream.control.set(latency_ms=200)
    stack.serve(upstream.url)
    client = stack.new_client()
    batch = wait_for(client, start_batch(client, chat_input(2000)), "in_progress")
    while completed(client, batch) == 0:
        pass
    assert client.batches.cancel(batch.id).status == "cancelling"
    batch = wait_for(client, batch)
    assert batch.status == "cancelled"
    assert 0 < batch.request_counts.completed < 2000
    assert_whole(stack, client, batch, [str(n) for n in range(2000)])
    assert client.batches.cancel(batch.id).status == "cancelled"
    sent = sum(upstream.control.calls().values())
    assert sent <= batch.request_counts.completed + 32


def test_a_batch_can_be_cancelled_while_validating_and_not_once_completed(stack: Stack, upstream: FakeUpstream) -> None:
    """B8: 409 on a finished batch, which the SDK does not retry (C4)."""
    stack.serve(upstream.url)
    client = stack.new_client()
    batch = start_batch(client, chat_input(50_000))
    assert client.batches.cancel(batch.id).status == "cancelling"
    assert wait_for(client, batch).status == "cancelled"
    done = wait_for(client, start_batch(client, chat_input(3)))
    with pytest.raises(openai.ConflictError, match="Cannot cancel a batch with status 'completed'"):
        client.batches.cancel(done.id)


def test_an_expired_batch_has_its_partial_results(stack: Stack, upstream: FakeUpstream) -> None:
    """B10, M3: expiry in mid-run; unrun requests are `batch_expired` and not counted as failed."""
    upstream.control.set(latency_ms=300)
    stack.serve(upstream.url)
    client = stack.new_client()
    batch = wait_for(client, start_batch(client, chat_input(3000)), "in_progress")
    while completed(client, batch) == 0:
        pass
    stack.shell(
        "from batches_app.models import Batch; from django.utils import timezone;"
        "Batch.objects.update(expires_at=timezone.now())"
    )
    batch = wait_for(client, batch)
    assert batch.status == "expired"
    assert batch.request_counts.failed == 0
    assert_whole(stack, client, batch, [str(n) for n in range(3000)])
    errors = result_lines(client, batch.error_file_id)
    assert {line["error"]["code"] for line in errors} == {"batch_expired"}


def test_a_small_batch_does_not_wait_for_a_large_one(stack: Stack, upstream: FakeUpstream) -> None:
    """Fair share: one line beside another account's 5,000 is done long before them."""
    upstream.control.set(latency_ms=100)
    stack.serve(upstream.url)
    large, small = stack.new_client(), stack.new_client()
    backlog = wait_for(large, start_batch(large, chat_input(5000)), "in_progress")
    line = request_line("only", "cid:only hi").encode()
    done = wait_for(small, start_batch(small, line), seconds=10)
    assert done.status == "completed"
    assert large.batches.retrieve(backlog.id).status == "in_progress"
    large.batches.cancel(backlog.id)


def test_a_deleted_input_file_does_not_disturb_its_batch(stack: Stack, upstream: FakeUpstream) -> None:
    """F6: the bytes stay until no batch needs them."""
    upstream.control.set(latency_ms=100)
    stack.serve(upstream.url)
    client = stack.new_client()
    batch = wait_for(client, start_batch(client, chat_input(600)), "in_progress")
    client.files.delete(batch.input_file_id)
    batch = wait_for(client, batch)
    assert_whole(stack, client, batch, [str(n) for n in range(600)])
    inputs = "StoredFile.objects.filter(purpose='batch').count()"
    kept = stack.shell(f"from files_app.models import StoredFile; print({inputs})")
    assert kept == "0"


def test_an_account_stays_within_its_enqueued_tokens(stack: Stack, upstream: FakeUpstream) -> None:
    """V12: the batch that would pass the limit is created and fails."""
    upstream.control.set(latency_ms=500)
    stack.serve(upstream.url)
    client = stack.new_client("limited")
    stack.manage("create_account", "limited", "--token-limit", "m=3000")
    first = wait_for(client, start_batch(client, chat_input(100)), "in_progress", "failed")
    second = wait_for(client, start_batch(client, chat_input(100)))
    assert first.status == "in_progress"
    assert [error.code for error in second.errors.data] == ["token_limit_exceeded"]


def test_a_changed_model_is_followed_at_once(stack: Stack, upstream: FakeUpstream) -> None:
    """A running lane goes over to the new upstream; no line is lost on the way."""
    upstream.control.set(latency_ms=400)
    with FakeUpstream() as second:
        stack.serve(upstream.url)
        client = stack.new_client()
        batch = wait_for(client, start_batch(client, chat_input(1000)), "in_progress")
        stack.serve(second.url)
        batch = wait_for(client, batch)
        assert_whole(stack, client, batch, [str(n) for n in range(1000)])
        assert sum(second.control.calls().values()) > 0
        assert sum(upstream.control.calls().values()) + sum(second.control.calls().values()) == 1000


def test_the_ledger_is_checked_against_the_bytes(stack: Stack, upstream: FakeUpstream) -> None:
    """M4: `billing_reconcile` exits 1 with the difference when an entry does not belong."""
    stack.serve(upstream.url)
    client = stack.new_client()
    batch = wait_for(client, start_batch(client, chat_input(5)))
    stack.shell(FALSIFY)
    report = stack.manage("billing_reconcile", check=False)
    assert [difference["batch_id"] for difference in report["differences"]] == [batch.id]
    assert [found["what"].split(" of ")[0] for found in report["books"]] == ["balance", "spend", "daily usage"]
