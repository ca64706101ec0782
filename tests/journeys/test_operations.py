"""Operations through the real service: workers that die, and lines that run again."""

import json
import signal
import time
from typing import Any

from tests.fake_upstream import FakeUpstream
from tests.stack import Stack, assert_whole, chat_input, result_lines, start_batch, wait_for

START = """
from django.utils import timezone
from batches_app import operations
from batches_app.models import Batch
olga, now = {'actor': 'olga', 'address': ''}, timezone.now()
operation = %s
operations.start(operation, 'because', by=olga, now=now)
print(operation.pk)
"""
LOOK = """
import json
from batches_app.models import Operation
from billing_app.models import AuditEntry
operation = Operation.objects.get()
cancelled = AuditEntry.objects.filter(action='batch.cancelled').count()
facts = (operation.state, operation.position, operation.changed, cancelled)
print(json.dumps([*facts, operation.result and operation.result.public_id]))
"""


def wait_until_ended(stack: Stack, seconds: float) -> tuple[Any, ...]:
    deadline = time.monotonic() + seconds
    while (found := _look(stack))[0] == "running":
        assert time.monotonic() < deadline, found
        time.sleep(0.5)
    return found


def _look(stack: Stack) -> tuple[Any, ...]:
    return tuple(json.loads(stack.shell(LOOK)))


def test_an_operation_whose_workers_are_killed_cancels_each_batch_once(
    impatient: Stack, upstream: FakeUpstream
) -> None:
    """Nobody hears the first bell either: the shell that starts it has no Redis."""
    upstream.control.set(status=503)
    impatient.serve(upstream.url)
    client = impatient.new_client()
    batches = [start_batch(client, chat_input(2)) for _ in range(60)]
    impatient.shell(START % "operations.draft_cancel(Batch.objects.all(), by=olga, query='', now=now)")
    killed = time.monotonic()
    while time.monotonic() < killed + 8:
        for process in impatient.workers_of("control"):
            process.send_signal(signal.SIGKILL)
        time.sleep(2)
    state, position, changed, audited, _ = wait_until_ended(impatient, 180)
    assert (state, position, changed, audited) == ("done", 60, 60, 60)
    for batch in batches:
        assert wait_for(client, batch).status == "cancelled"


def test_exactly_the_failed_lines_run_again_and_are_billed_once(stack: Stack, upstream: FakeUpstream) -> None:
    upstream.control.set(match=r"cid:\d*7 ", status=400)
    stack.serve(upstream.url)
    client = stack.new_client()
    batch = wait_for(client, start_batch(client, chat_input(100)))
    failed = [line["custom_id"] for line in result_lines(client, batch.error_file_id)]
    assert failed == [str(n) for n in range(100) if n % 10 == 7]
    upstream.control.reset()
    draft = f"operations.draft_retry(Batch.objects.get(public_id='{batch.id}'), '', by=olga, now=now)"
    stack.shell(START % draft)
    state, _, lines, _, retry_id = wait_until_ended(stack, 60)
    assert (state, lines) == ("done", 10)
    retry = wait_for(client, client.batches.retrieve(retry_id))
    assert retry.status == "completed"
    assert_whole(stack, client, retry, failed)
    assert_whole(stack, client, client.batches.retrieve(batch.id), [str(n) for n in range(100)])
