"""One lane's run against a scripted upstream: what operators may do to it, and what they see of it."""

import errno
import os
import signal
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import Error, InterfaceError, InternalError
from django.utils import timezone

from batches_app import clock, connecting, execution, flushing, intake, lanes, lifecycle, poison, queue, routing
from batches_app.execution import LaneRun
from batches_app.models import Batch, BatchEvent, Checkpoint, ErrorGroup, Lane, LaneMinute, Shard
from batches_app.states import Status
from batches_app.upstream.client import Answer, Fault
from files_app import blobs
from tests.factories import BY_TENANT, BatchFactory, LaneFactory, ShardFactory
from tests.stack import request_line
from tests.tenants import Tenant

pytestmark = pytest.mark.django_db
GOOD = b'{"usage": {"prompt_tokens": 10, "completion_tokens": 3}}'
LINES = 6


@pytest.fixture(autouse=True)
def _at_every_turn(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.FLUSH_INTERVAL = 0.0
    monkeypatch.setattr(queue, "ring", lambda *_, **__: queue.Bell())


class Upstream:
    """A Transport. At each poll the next of `moments` happens; what it returns answers everything in flight, and
    nothing at all is a good answer. False: none is given yet."""

    def __init__(self, *moments: Callable[[], Any]) -> None:
        self.sent: list[int] = []
        self._moments = list(moments)
        self._waiting: list[tuple[Any, float]] = []
        self._polls = 0

    @property
    def in_flight(self) -> int:
        return len(self._waiting)

    def send(self, tag: Any, endpoint: str, body: bytes, stream: bool) -> None:
        self.sent.append(tag.line.number)
        self._waiting.append((tag, time.monotonic()))

    def poll(self, timeout: float) -> list[Answer]:
        self._polls += 1
        assert self._polls < 5000, "The lane waits for ever."
        time.sleep(min(timeout, 0.001))
        said = self._moments.pop(0)() if self._moments else None
        if said is False:
            return []
        waiting, self._waiting = self._waiting, []
        return [_answer(tag, started, **(said or {})) for tag, started in waiting]

    def abort(self, doomed: Callable[[Any], bool]) -> list[Any]:
        tags = [tag for tag, _ in self._waiting if doomed(tag)]
        self._waiting = [(tag, started) for tag, started in self._waiting if tag not in tags]
        return tags

    def close(self) -> None:
        self._waiting.clear()


def _answer(tag: Any, started: float, status: int = 200, body: bytes = GOOD, **facts: Any) -> Answer:
    shape = {"content_type": "", "retry_after": None, "request_id": None, "fault": None, "message": "So it says."}
    return Answer(tag, status, body, started=started, seconds=0.07, **(shape | facts))


@pytest.fixture
def lane() -> Lane:
    made: Lane = LaneFactory(permits=2)
    return made


@pytest.fixture
def batch(lane: Lane) -> Batch:
    """Of six lines in three shards."""
    tenant = Tenant("acme")
    lines = [request_line(str(number), "hi").encode() + b"\n" for number in range(1, LINES + 1)]
    file = tenant.has_file(b"".join(lines))
    row: Batch = BatchFactory(account=tenant.account, source=file, input_file_id=file.public_id, total=LINES)
    offset = 0
    for first in range(0, LINES, 2):
        size = len(lines[first]) + len(lines[first + 1])
        ShardFactory(
            batch=row,
            model=lane.model,
            first_line=first + 1,
            last_line=first + 2,
            requests=2,
            offset=offset,
            size=size,
        )
        offset += size
    return row


def _run(lane: Lane, upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connecting, "transport", lambda _model: upstream)
    execution.run_lane(lane.pk)


def _events() -> list[str]:
    return list(BatchEvent.objects.values_list("kind", flat=True))


def test_an_input_that_cannot_be_read_keeps_no_other_batch_waiting(
    lane: Lane, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried again by and by, by whichever lane, and its lines go out when it is back."""
    monkeypatch.setattr(intake, "UNREAD_SECONDS", 0.1)
    other = Tenant("other")
    file = other.has_file(request_line("theirs", "hi").encode())
    theirs: Batch = BatchFactory(account=other.account, source=file, input_file_id=file.public_id, total=1)
    ShardFactory(batch=theirs, model=lane.model, first_line=9, last_line=9, requests=1, offset=0, size=file.bytes)
    reads: list[int] = []
    read_range = blobs.read_range

    def read(name: str, offset: int, size: int) -> bytes:
        if name != file.blob:
            reads.append(offset)
            if len(reads) <= 3:
                raise OSError(errno.EIO, "the disk is gone")
        return read_range(name, offset, size)

    monkeypatch.setattr(blobs, "read_range", read)
    upstream = Upstream()
    _run(lane, upstream, monkeypatch)
    assert upstream.sent == [9, 1, 2, 3, 4, 5, 6]
    assert len(reads) == 3 + 3
    assert set(Shard.objects.values_list("state", "losses")) == {(Shard.State.DONE, 0)}


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "full"), RuntimeError("SlowDown"), InternalError("read-only"), InterfaceError("closed")],
)
def test_a_storage_or_database_that_is_away_is_waited_for(
    lane: Lane, batch: Batch, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Whatever it raises: no line is sent again for it, and none is taken for one that brings a process down."""
    monkeypatch.setattr(flushing, "PATIENCE", 0.0)
    monkeypatch.setattr(flushing, "close_old_connections", lambda: None)  # the test's transaction is in it
    save, tries, leases = default_storage.save, [], []

    def away(*given: Any) -> str:
        tries.append(given)
        leases.append(str(Lane.objects.get(pk=lane.pk).lease_expires_at))
        if len(tries) % 2:
            raise error
        return save(*given)

    monkeypatch.setattr(default_storage, "save", away)
    if isinstance(error, Error):
        monkeypatch.setattr(
            blobs, "write", lambda folder, content: away(f"{folder}/{len(tries)}", ContentFile(content))
        )
    upstream = Upstream()
    _run(lane, upstream, monkeypatch)
    assert sorted(upstream.sent) == [1, 2, 3, 4, 5, 6]
    assert len(tries) >= 2
    assert leases[1] > leases[0]  # it is kept meanwhile: a full disk does not make a lane look dead
    assert set(Shard.objects.values_list("state", "losses")) == {(Shard.State.DONE, 0)}


@pytest.mark.parametrize("is_orphan", [False, True])
def test_a_lane_that_cannot_commit_and_is_to_end_leaves_its_lines_to_others(
    lane: Lane, batch: Batch, monkeypatch: pytest.MonkeyPatch, is_orphan: bool
) -> None:
    """It may be this machine alone whose disk fails. Nobody's line is to blame."""
    monkeypatch.setattr(flushing, "PATIENCE", 0.01)
    monkeypatch.setattr(flushing, "LAST_PATIENCE", 0.03)
    monkeypatch.setattr(flushing, "close_old_connections", lambda: None)  # the test's transaction is in it
    tries: list[int] = []

    def full(folder: str, content: bytes) -> str:
        tries.append(1)
        if len(tries) == 9 and is_orphan:
            patched.setattr(os, "getppid", lambda: 1)
        elif len(tries) == 9:
            os.kill(os.getpid(), signal.SIGTERM)
        raise OSError(errno.EIO, "the disk is gone")

    with monkeypatch.context() as patched:
        patched.setattr(blobs, "write", full)
        _run(lane, Upstream(), monkeypatch)
    assert 9 < len(tries) < 14
    lane.refresh_from_db()
    assert lane.lease_expires_at is None
    assert set(Shard.objects.values_list("state", "losses")) == {(Shard.State.WAITING, 0)}
    upstream = Upstream()
    _run(lane, upstream, monkeypatch)
    assert sorted(upstream.sent) == [1, 2, 3, 4, 5, 6]


def test_a_lane_is_leased_by_the_database_s_clock(lane: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    there, leased = timezone.now() - timedelta(hours=1), list[datetime]()
    monkeypatch.setattr(clock, "now", lambda: there)
    monkeypatch.setattr(lanes, "acquire", lambda lane_id, *, now: leased.append(now))
    execution.run_lane(lane.pk)
    assert leased == [there]


def test_a_run_is_noted_once_for_each_batch(lane: Lane, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many shards it claims, and though it leaves the batch before its own end."""
    upstream = Upstream()
    _run(lane, upstream, monkeypatch)
    assert sorted(upstream.sent) == [1, 2, 3, 4, 5, 6]
    events = BatchEvent.objects.values_list("batch", "kind", "lane", "owner")
    owner = BatchEvent.objects.values_list("owner", flat=True)[0]
    assert owner
    assert list(events) == [
        (batch.pk, "claimed", str(lane), owner),
        (batch.pk, "released", str(lane), owner),
    ]


def test_the_minutes_tell_what_a_run_did(lane: Lane, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each answer counts, also of a line that is sent again; each line counts once."""
    wrong = b'{"error": {"code": "too_long"}}'
    upstream = Upstream(lambda: {"status": 400, "body": wrong}, lambda: {"status": 500}, lambda: {"status": 429})
    _run(lane, upstream, monkeypatch)
    rows = LaneMinute.objects.all()  # two, where the clock has just turned
    sums = {name: sum(getattr(row, name) for row in rows) for name in ("completed", "failed", "answers")}
    assert sums == {"completed": 4, "failed": 2, "answers": len(upstream.sent)}
    assert sum(row.input_tokens for row in rows) == 40
    assert sum(row.output_tokens for row in rows) == 12
    assert sum(row.faults for row in rows) == sum(row.throttled for row in rows) == 2
    assert sum(sum(row.latency) for row in rows) == 4
    assert {(row.model_id, row.lane_id) for row in rows} == {(lane.model_id, lane.pk)}
    assert list(ErrorGroup.objects.values_list("code", "count")) == [("http_400 too_long", 2)]


def test_a_paused_model_gets_nothing_more_and_finishes_what_is_in_flight(
    lane: Lane, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:

    def pause() -> None:
        routing.pause(lane.model, by="olga", reason="upgrade", now=timezone.now())

    upstream = Upstream(pause)
    _run(lane, upstream, monkeypatch)
    batch.refresh_from_db()
    assert len(upstream.sent) == batch.completed == 2
    assert batch.status == Status.IN_PROGRESS
    assert not Shard.objects.filter(state=Shard.State.RUNNING).exists()
    assert _events() == ["claimed", "released"]
    lane.refresh_from_db()
    assert lane.lease_expires_at is None


def test_a_model_that_was_paused_first_gets_nothing_at_all(
    lane: Lane, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the lease and the first line."""
    upstream = Upstream()
    held = lanes.acquire(lane.pk, now=timezone.now())
    assert held is not None
    routing.pause(lane.model, by="olga", reason="upgrade", now=timezone.now())
    LaneRun(held, lane.model, 2, upstream).work()
    assert upstream.sent == []


def test_a_model_resumed_before_its_lane_came_to_an_end_goes_on_in_it(
    lane: Lane, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long request in flight would else keep the lane, with all its permits, idle until it is answered."""

    def pause() -> bool:
        routing.pause(lane.model, by="olga", reason="upgrade", now=timezone.now())
        return False

    def resume() -> bool:
        assert len(upstream.sent) == 2
        routing.resume(lane.model, now=timezone.now())
        return False

    upstream = Upstream(pause, lambda: False, resume)
    _run(lane, upstream, monkeypatch)
    batch.refresh_from_db()
    assert batch.completed == LINES
    assert _events() == ["claimed", "released"]


def test_a_batch_can_be_cancelled_while_its_model_is_paused(
    lane: Lane, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while requests are in flight that were sent before the pause."""

    def pause() -> bool:
        routing.pause(lane.model, by="olga", reason="upgrade", now=timezone.now())
        return False

    def cancel() -> bool:
        lifecycle.cancel(batch, BY_TENANT, now=timezone.now())
        return False

    _run(lane, Upstream(pause, cancel), monkeypatch)
    batch.refresh_from_db()
    assert (batch.status, batch.completed) == (Status.CANCELLING, 2)
    assert set(Shard.objects.values_list("state", flat=True)) == {Shard.State.DONE, Shard.State.CLOSED}


@pytest.mark.parametrize(
    "trouble",
    [{"status": 429, "retry_after": "600"}, {"status": 0, "body": b"", "fault": Fault.CONNECT}],
    ids=["throttled", "down"],
)
def test_a_lane_that_waits_tries_at_once_when_an_operator_asks(
    lane: Lane, batch: Batch, monkeypatch: pytest.MonkeyPatch, trouble: dict[str, Any]
) -> None:
    """Here it would wait for minutes."""
    monkeypatch.setattr("batches_app.upstream.pacing.ceiling", lambda _attempt: 600.0)

    def ask() -> None:
        assert len(upstream.sent) == 2
        routing.ask_probe(lane.model, now=timezone.now())

    upstream = Upstream(lambda: trouble, lambda: None, ask)
    _run(lane, upstream, monkeypatch)
    batch.refresh_from_db()
    assert batch.completed == LINES
    assert batch.failed == 0


def test_to_ask_once_is_to_try_once(lane: Lane, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upstream that is still down is not asked again at every tick."""
    monkeypatch.setattr("batches_app.upstream.pacing.ceiling", lambda _attempt: 600.0)
    down = {"status": 0, "body": b"", "fault": Fault.CONNECT}

    def ask() -> None:
        routing.ask_probe(lane.model, now=timezone.now())

    def pause() -> None:
        routing.pause(lane.model, by="olga", reason="upgrade", now=timezone.now())

    upstream = Upstream(lambda: down, ask, lambda: down, lambda: None, lambda: None, pause)
    _run(lane, upstream, monkeypatch)
    assert len(upstream.sent) == 3


def test_a_lane_that_starts_anew_heeds_no_question_from_before(
    lane: Lane, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would begin each outage with a probe too many."""
    routing.ask_probe(lane.model, now=timezone.now())
    monkeypatch.setattr("batches_app.upstream.pacing.ceiling", lambda _attempt: 600.0)

    def pause() -> None:
        routing.pause(lane.model, by="olga", reason="upgrade", now=timezone.now())

    upstream = Upstream(lambda: {"status": 429}, lambda: None, lambda: None, pause)
    _run(lane, upstream, monkeypatch)
    assert len(upstream.sent) == 2


# Lines that take down whoever sends them


def _suspect(first_line: int, losses: int, **facts: Any) -> None:
    Shard.objects.filter(first_line=first_line).update(losses=losses, **facts)


def test_a_shard_under_suspicion_is_run_with_nothing_else_in_hand(
    lane: Lane, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    _suspect(3, poison.ALONE)
    Lane.objects.update(permits=LINES)
    in_flight: list[list[int]] = []

    def look() -> None:
        in_flight.append(list(upstream.sent[sum(map(len, in_flight)) :]))

    upstream = Upstream(look, look)
    _run(lane, upstream, monkeypatch)
    assert in_flight == [[3, 4], [1, 2, 5, 6]]


def test_a_lane_with_something_in_hand_takes_none_under_suspicion(
    lane: Lane, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    Lane.objects.update(permits=1)
    in_flight: list[list[int]] = []

    def allow_more() -> bool:
        _suspect(3, poison.ALONE)
        Lane.objects.update(permits=LINES)
        return False

    def look() -> None:
        in_flight.append(list(upstream.sent[sum(map(len, in_flight)) :]))

    upstream = Upstream(allow_more, look, look)
    _run(lane, upstream, monkeypatch)
    assert in_flight == [[1, 2, 5, 6], [3, 4]]


def test_of_a_worse_one_a_line_is_sent_at_a_time_noted_before_and_alone_in_what_may_be_lost(
    lane: Lane, batch: Batch, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.FLUSH_INTERVAL = 60.0
    _suspect(3, poison.SINGLY)
    seen: list[tuple[Any, ...]] = []

    def look() -> None:
        noted = Shard.objects.get(first_line=3).suspect_line
        seen.append((upstream.in_flight, upstream.sent[-1], noted, Checkpoint.objects.count()))

    upstream = Upstream(look, look)
    _run(lane, upstream, monkeypatch)
    assert seen == [(1, 3, 3, 0), (1, 4, 4, 1)]
    assert sorted(upstream.sent) == [1, 2, 3, 4, 5, 6]
    assert Shard.objects.filter(state=Shard.State.DONE).count() == 3


def test_a_line_that_took_three_down_is_not_sent_again_and_costs_nothing(
    lane: Lane, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    _suspect(3, poison.SINGLY + poison.MOST_CRASHES, crashes={"4": poison.MOST_CRASHES, "3": 1})
    upstream = Upstream()
    _run(lane, upstream, monkeypatch)
    assert sorted(upstream.sent) == [1, 2, 3, 5, 6]
    batch.refresh_from_db()
    assert (batch.completed, batch.failed, batch.input_tokens) == (5, 1, 50)
    (group,) = ErrorGroup.objects.all()
    assert (group.code, group.first_line, group.custom_id) == ("worker_crash", 4, "4")
    assert "3 times" in group.message


def test_a_lane_makes_way_at_the_end_of_its_turn_for_a_shard_under_suspicion(
    lane: Lane, batch: Batch, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    """Else it would wait for as long as there is other work."""
    settings.LANE_TURN = 0.0
    Lane.objects.update(permits=1)
    upstream = Upstream(lambda: _suspect(5, poison.ALONE))
    _run(lane, upstream, monkeypatch)
    assert 5 not in upstream.sent
    settings.LANE_TURN = 30.0
    again = Upstream()
    _run(lane, again, monkeypatch)
    assert again.sent[:2] == [5, 6]
    assert sorted([*upstream.sent, *again.sent]) == [1, 2, 3, 4, 5, 6]
