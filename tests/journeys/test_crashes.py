"""Whatever dies, whenever: every custom_id ends in exactly one result line, every success is billed once."""

import json
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
import redis

from batches_app.results import error_of
from tests.fake_upstream import FakeUpstream
from tests.stack import Stack, assert_whole, chat_input, completed, start_batch, wait_for

WINDOW = 256  # results between two flushes, at most
PERMITS = 32


def _resent(upstream: FakeUpstream) -> int:
    return sum(calls - 1 for calls in upstream.control.calls().values())


def test_a_lane_killed_at_20_random_moments_loses_and_repeats_nothing(stack: Stack, upstream: FakeUpstream) -> None:
    """Promise 1 and 2: kill -9 of the work-horse; at most a flush window is sent again each time."""
    upstream.control.set(latency_ms=20)
    stack.serve(upstream.url)
    client = stack.new_client()
    batch = start_batch(client, chat_input(20_000))
    chance = random.Random(1)
    kills = 0
    while kills < 20:
        time.sleep(chance.uniform(0.05, 1.2))
        for horse in stack.lane_horses():
            horse.send_signal(signal.SIGKILL)
            kills += 1
    batch = wait_for(client, batch, seconds=240)
    assert batch.request_counts.completed == 20_000
    assert_whole(stack, client, batch, [str(n) for n in range(20_000)])
    assert 0 < _resent(upstream) <= kills * (WINDOW + PERMITS)


SEEN = """
import json
from batches_app.models import BatchEvent, ErrorGroup, LaneMinute
groups = dict(ErrorGroup.objects.filter(batch__public_id="{id}").values_list("code", "count"))
minutes = [sum(LaneMinute.objects.values_list(name, flat=True)) for name in ("completed", "failed")]
events = list(BatchEvent.objects.order_by("pk").values_list("kind", flat=True))
print(json.dumps([groups, minutes, events]))
"""


def test_what_operators_see_stays_right_whatever_is_killed(stack: Stack, upstream: FakeUpstream) -> None:
    """Error groups, minutes and events commit with the results they tell of, or not at all."""
    upstream.control.set(latency_ms=50)
    upstream.control.set(match="5 hello", status=400)
    stack.serve(upstream.url)
    client = stack.new_client()
    batch = wait_for(client, start_batch(client, chat_input(6000)), "in_progress")
    chance = random.Random(2)
    kills = 0
    while kills < 4:
        time.sleep(chance.uniform(0.3, 1.0))
        for horse in stack.lane_horses():
            horse.send_signal(signal.SIGKILL)
            kills += 1
    batch = wait_for(client, batch, seconds=120)
    errors = Counter(error_of(line)[0] for line in client.files.content(batch.error_file_id).content.splitlines())
    assert errors.total() == batch.request_counts.failed == 600
    groups, minutes, events = json.loads(stack.shell(SEEN.format(id=batch.id)))
    assert groups == errors
    assert minutes == [5400, 600]
    assert (events[0], events[-1]) == ("claimed", "released")
    assert 0 < events.count("lost") <= kills  # who dies before the first claim loses nothing


def test_a_worker_killed_with_its_work_horse_is_replaced(stack: Stack, upstream: FakeUpstream) -> None:
    """Promise 2: nobody is left to say that the lane died; its lease runs out, and work goes on within 60 s."""
    upstream.control.set(latency_ms=20)
    stack.serve(upstream.url)
    client = stack.new_client()
    batch = wait_for(client, start_batch(client, chat_input(3000)), "in_progress")
    time.sleep(1)
    doomed = [*stack.lane_workers(), *stack.lane_horses()]
    before = completed(client, batch)
    for process in doomed:
        process.send_signal(signal.SIGKILL)
    killed_at = time.monotonic()
    while completed(client, batch) <= before + WINDOW:
        assert time.monotonic() - killed_at < 60
        time.sleep(0.2)
    batch = wait_for(client, batch)
    assert_whole(stack, client, batch, [str(n) for n in range(3000)])


def test_everything_killed_at_once_starts_again_where_it_was(impatient: Stack, upstream: FakeUpstream) -> None:
    upstream.control.set(latency_ms=20)
    impatient.serve(upstream.url)
    client = impatient.new_client()
    batches = [start_batch(client, chat_input(3000)) for _ in range(3)]
    wait_for(client, batches[0], "in_progress")
    time.sleep(1.5)
    impatient.kill_everything()
    impatient.start()
    for batch in batches:
        ended = wait_for(client, batch, seconds=180)
        assert ended.status == "completed"
        assert_whole(impatient, client, ended, [str(n) for n in range(3000)])


def test_redis_flushed_in_mid_batch_heals(stack: Stack, upstream: FakeUpstream) -> None:
    """FLUSHALL drops every bell; what waits is rung again within 30 s."""
    upstream.control.set(latency_ms=20)
    stack.serve(upstream.url)
    client = stack.new_client()
    batches = []
    server = redis.Redis.from_url(stack.redis_url())
    for _ in range(5):
        batches.append(start_batch(client, chat_input(500)))
        server.flushall()
    server.close()
    for batch in batches:
        ended = wait_for(client, batch, seconds=90)
        assert_whole(stack, client, ended, [str(n) for n in range(500)])


def test_an_outage_of_the_upstream_burns_no_line(stack: Stack, upstream: FakeUpstream) -> None:
    """Design 6: refused connections for 30 s; the lane waits, says so, and goes on by itself."""
    upstream.control.set(latency_ms=20)
    stack.serve(upstream.url)
    client = stack.new_client()
    batch = wait_for(client, start_batch(client, chat_input(3000)), "in_progress")
    time.sleep(0.5)
    upstream.control.refuse(30)
    time.sleep(5)
    paused = "Lane.objects.exclude(paused_since=None).get()"
    said = stack.shell(f"from batches_app.models import Lane; print({paused}.pause_reason)")
    assert "could not be reached" in said
    batch = wait_for(client, batch)
    assert batch.request_counts.failed == 0
    assert_whole(stack, client, batch, [str(n) for n in range(3000)])


@pytest.mark.parametrize("status", [429, 503, 401])
def test_throttling_and_a_refused_key_burn_no_line(stack: Stack, upstream: FakeUpstream, status: int) -> None:
    """R4: the model pauses and probes; Retry-After is heeded."""
    upstream.control.set(status=status, headers={"Retry-After": "1"})
    stack.serve(upstream.url)
    client = stack.new_client()
    batch = start_batch(client, chat_input(100))
    time.sleep(4)
    upstream.control.reset()
    batch = wait_for(client, batch)
    assert batch.request_counts.failed == 0
    assert_whole(stack, client, batch, [str(n) for n in range(100)])


def test_every_job_delivered_twice_changes_nothing(tmp_path: Path, upstream: FakeUpstream) -> None:
    """RQ delivers twice at times: two workers of each kind, and each job rung three times over."""
    with Stack(tmp_path, workers=3) as stack:
        upstream.control.set(latency_ms=5)
        stack.serve(upstream.url)
        client = stack.new_client()
        batch = start_batch(client, chat_input(1500))
        ring = (
            "from batches_app import queue; from batches_app.models import Batch, Lane\n"
            "for n in range(3):\n"
            "  for b in Batch.objects.all():\n"
            "    queue.ring(queue.Job.VALIDATE, once_per=f'v{n}-{b.pk}', batch_id=b.pk)\n"
            "    queue.ring(queue.Job.FINALIZE, once_per=f'f{n}-{b.pk}', batch_id=b.pk)\n"
            "  for l in Lane.objects.all(): queue.ring(queue.Job.RUN_LANE, once_per=f'l{n}-{l.pk}', lane_id=l.pk)\n"
        )
        environment = f"import os; os.environ['REDIS_URL'] = {stack.redis_url()!r}\n"
        stack.environment["REDIS_URL"] = stack.redis_url()
        while client.batches.retrieve(batch.id).status not in ("completed", "failed"):
            stack.shell(environment + ring)
        stack.shell(environment + ring)
        batch = wait_for(client, batch)
        assert_whole(stack, client, batch, [str(n) for n in range(1500)])
        assert set(upstream.control.calls().values()) == {1}


def test_a_lane_that_was_stopped_past_its_lease_can_do_no_harm(impatient: Stack, upstream: FakeUpstream) -> None:
    """SIGSTOP until another has the lane, then SIGCONT: the late results are refused."""
    upstream.control.set(latency_ms=50)
    impatient.serve(upstream.url)
    client = impatient.new_client()
    batch = wait_for(client, start_batch(client, chat_input(20_000)), "in_progress")
    time.sleep(1)
    (horse,) = impatient.lane_horses()
    horse.send_signal(signal.SIGSTOP)
    token = "from batches_app.models import Lane; print(Lane.objects.get(model__name='m').token)"
    before = int(impatient.shell(token))
    deadline = time.monotonic() + 60
    while int(impatient.shell(token)) < before + 2:  # set free, then taken by another
        assert time.monotonic() < deadline
    horse.send_signal(signal.SIGCONT)
    horse.wait(20)
    batch = wait_for(client, batch)
    assert_whole(impatient, client, batch, [str(n) for n in range(20_000)])
    assert "taken for dead" in impatient.log.read_text()


def test_a_drain_on_sigterm_sends_nothing_twice(stack: Stack, upstream: FakeUpstream) -> None:
    """SIGTERM lets what is in flight finish: after the restart no line is sent again."""
    upstream.control.set(latency_ms=100)
    stack.serve(upstream.url)
    client = stack.new_client()
    batch = wait_for(client, start_batch(client, chat_input(1000)), "in_progress")
    time.sleep(1)
    stack.stop()
    stack.start()
    batch = wait_for(client, batch)
    assert_whole(stack, client, batch, [str(n) for n in range(1000)])
    assert _resent(upstream) == 0
