"""A line that takes down whoever sends it is an error line in the end, and no other line suffers for it."""

import signal
import time
from typing import Any

from batches_app import poison
from batches_app.results import ErrorCode
from tests.fake_upstream import FakeUpstream
from tests.stack import TERMINAL, Stack, assert_whole, chat_input, result_lines, start_batch, wait_for

DEATHS = poison.SINGLY + poison.MOST_CRASHES
CRASHES = "from batches_app.models import Shard; print(sorted(Shard.objects.values_list('losses', 'crashes'), key=str))"


def test_a_line_that_kills_its_process_is_given_up_and_the_rest_completes(stack: Stack, upstream: FakeUpstream) -> None:
    upstream.control.set(match="cid:7 ", fault="hang")
    stack.serve(upstream.url)
    client = stack.new_client()
    batch: Any = start_batch(client, chat_input(300))
    neighbour = stack.new_client()
    beside = start_batch(neighbour, chat_input(3).replace(b"cid:", b"cid:beside-"))
    killed = 0
    deadline = time.monotonic() + 120
    while (batch := client.batches.retrieve(batch.id)).status not in TERMINAL:
        assert time.monotonic() < deadline, stack.shell(CRASHES)
        if upstream.control.calls().get("7", 0) > killed:
            killed += 1
            for horse in stack.lane_horses():
                horse.send_signal(signal.SIGKILL)
        time.sleep(0.1)
    assert killed == DEATHS
    assert batch.status == "completed"
    assert (batch.request_counts or batch).model_dump() == {"total": 300, "completed": 299, "failed": 1}
    assert_whole(stack, client, batch, [str(n) for n in range(300)])
    (error,) = result_lines(client, batch.error_file_id)
    assert (error["custom_id"], error["error"]["code"]) == ("7", ErrorCode.WORKER_CRASH)
    calls = upstream.control.calls()
    assert max(calls[marker] for marker in calls if marker != "7") <= poison.SINGLY
    assert_whole(stack, neighbour, wait_for(neighbour, beside), ["0", "1", "2"])
