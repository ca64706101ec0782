"""A batch's error lines by code: exactly those that there are, at every moment."""

from functools import partial

import pytest
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from batches_app import checkpoints, finalization, lanes, lifecycle, results
from batches_app.checkpoints import BatchFacts, LineResult, Window
from batches_app.error_groups import MOST_GROUPS, OTHER, found_in, group_of
from batches_app.lanes import HeldLane, LeaseLost, Report
from batches_app.models import Batch, ErrorGroup, Shard
from batches_app.results import Outcome
from batches_app.states import Status
from tests.factories import BY_TENANT, BatchFactory, LaneFactory, ShardFactory
from tests.stack import request_line
from tests.tenants import Tenant
from tests.threads import at_once

NOW = timezone.now()


def _failed(line: int, status: int = 400, code: str = "", custom_id: str = "", message: str = "No.") -> LineResult:
    body = b'{"error": {"code": "%b", "message": "%b"}}' % (code.encode(), message.encode())
    text = results.result_line(custom_id or f"id-{line}", Outcome(status, None, body))
    return LineResult(line, text, False, None)


def _groups(batch: Batch) -> dict[str, int]:
    return dict(ErrorGroup.objects.filter(batch=batch).values_list("code", "count"))


@pytest.fixture
def held(db: None) -> HeldLane:
    held = lanes.acquire(LaneFactory().pk, now=NOW)
    assert held is not None
    return held


@pytest.fixture
def batch(db: None) -> Batch:
    batch: Batch = BatchFactory(status=Status.IN_PROGRESS)
    return batch


def _window(batch: Batch, *lines: LineResult) -> Window:
    assert batch.price is not None
    return Window(BatchFacts(batch.pk, batch.public_id, batch.account_id, None, batch.price), list(lines))


def _flush(held: HeldLane, batch: Batch, *lines: LineResult) -> Window:
    window = _window(batch, *lines)
    checkpoints.flush(held, [window], [], Report(), now=NOW)
    return window


def test_errors_are_counted_by_code_with_the_first_line_as_a_sample(held: HeldLane, batch: Batch) -> None:
    _flush(held, batch, _failed(7, code="too_long"), _failed(3, code="too_long"), _failed(4, 500))
    _flush(held, batch, _failed(9, code="too_long"), _failed(2, 500, message="Ouch."))
    assert _groups(batch) == {"http_400 too_long": 3, "http_500": 2}
    samples = ErrorGroup.objects.values_list("code", "first_line", "custom_id", "message")
    assert set(samples) == {("http_400 too_long", 3, "id-3", "No."), ("http_500", 2, "id-2", "Ouch.")}


def test_successes_touch_no_group(held: HeldLane, batch: Batch) -> None:
    text = results.result_line("1", Outcome(200, None, b"{}"))
    _flush(held, batch, LineResult(1, text, True, None))
    assert _groups(batch) == {}


def test_a_flush_that_is_tried_again_counts_once(held: HeldLane, batch: Batch) -> None:
    """The commit was made, and only its answer lost."""
    window = _flush(held, batch, _failed(1))
    checkpoints.flush(held, [window], [], Report(), now=NOW)
    assert _groups(batch) == {"http_400": 1}


def test_what_a_lost_lane_or_a_sealed_batch_refuses_is_not_counted(held: HeldLane, batch: Batch) -> None:
    late = HeldLane(held.id, held.model_id, held.token - 1)
    with pytest.raises(LeaseLost):
        _flush(late, batch, _failed(1))
    Batch.objects.update(sealed_at=NOW)
    _flush(held, batch, _failed(1))
    assert _groups(batch) == {}


def test_no_batch_has_more_groups_than_there_is_room_for(held: HeldLane, batch: Batch) -> None:
    """An upstream that puts something new into each code does not fill the database."""
    _flush(held, batch, *(_failed(n, code=f"c{n}") for n in range(1, 200)))
    _flush(held, batch, *(_failed(n, code=f"c{n % 250}") for n in range(200, 300)))
    groups = _groups(batch)
    assert len(groups) == MOST_GROUPS
    assert sum(groups.values()) == 299
    assert groups[OTHER] == 299 - sum(count for code, count in groups.items() if code != OTHER)


def test_who_groups_the_lines_later_finds_the_same(held: HeldLane, batch: Batch) -> None:
    """By the groups that there are in the end, whatever came first."""
    lines = [_failed(n, code=f"c{n * 37 % 120}") for n in range(1, 301)]
    for start in (200, 0, 100):
        _flush(held, batch, *lines[start : start + 100])
    groups = _groups(batch)
    again: dict[str, int] = dict.fromkeys(groups, 0)
    for line in lines:
        again[group_of(groups, results.error_of(line.text)[0])] += 1
    assert again == groups


@given(st.lists(st.text(max_size=3)))
def test_a_code_stays_in_its_group_for_ever(codes: list[str]) -> None:
    known: set[str] = set()
    put: dict[str, str] = {}
    for code in codes * 2:
        group = group_of(known, code)
        known.add(group)
        assert put.setdefault(code, group) == group
    assert len(known) <= MOST_GROUPS


def test_what_no_database_takes_is_stored_harmlessly(held: HeldLane, batch: Batch) -> None:
    """A NUL, which PostgreSQL refuses, and half of a surrogate pair, which UTF-8 does."""
    hostile = _failed(1, custom_id="a\0\ud800" + "x" * 600, message="\\u0000\\ud800" + "y" * 900)
    _flush(held, batch, hostile)
    group = ErrorGroup.objects.get()
    assert group.custom_id == "a\ufffd?" + "x" * 197
    assert group.message == "\ufffd?" + "y" * 498


def test_an_error_without_an_answer_has_its_own_code() -> None:
    text = results.result_line("a", Outcome(None, None, b"", "timeout", "It took too long."))
    assert list(found_in([(1, text)])) == ["timeout"]


# ---- the end of a batch


def _batch_of_three(status: Status) -> Batch:
    tenant = Tenant("acme")
    data = "\n".join(request_line(str(n), "hi") for n in (1, 2, 3)).encode()
    file = tenant.has_file(data)
    row: Batch = BatchFactory(account=tenant.account, source=file, input_file_id=file.public_id, total=3)
    ShardFactory(batch=row, first_line=1, last_line=3, requests=3, offset=0, size=len(data))
    Batch.objects.filter(pk=row.pk).update(status=status)
    row.refresh_from_db()
    return row


@pytest.mark.django_db
@pytest.mark.parametrize("code", ["batch_cancelled", "batch_expired"])
def test_the_requests_that_were_never_run_are_a_group(held: HeldLane, code: str) -> None:
    batch = _batch_of_three(Status.IN_PROGRESS)
    _flush(held, batch, _failed(2))
    if code == "batch_cancelled":
        lifecycle.cancel(batch, BY_TENANT, now=NOW)
    else:
        lifecycle.expire(batch, now=NOW)
    for _ in range(2):  # delivered twice
        finalization.finalize(batch.pk)
    batch.refresh_from_db()
    assert batch.status == code.removeprefix("batch_")
    assert _groups(batch) == {"http_400": 1, code: 2}
    sample = ErrorGroup.objects.get(code=code)
    assert (sample.first_line, sample.custom_id) == (1, "1")


@pytest.mark.django_db
def test_a_conclusion_that_came_too_late_counts_nothing(held: HeldLane, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another job did the same work, and made it known first."""
    batch = _batch_of_three(Status.IN_PROGRESS)
    lifecycle.cancel(batch, BY_TENANT, now=NOW)
    monkeypatch.setattr(lifecycle, "conclude", lambda *_, **__: False)
    finalization.finalize(batch.pk)
    assert _groups(batch) == {}


@pytest.mark.django_db
def test_a_batch_that_completed_has_no_unrun_group(held: HeldLane) -> None:
    batch = _batch_of_three(Status.IN_PROGRESS)
    _flush(held, batch, _failed(1), _failed(2), _failed(3))
    Shard.objects.update(state=Shard.State.DONE)
    lifecycle.complete_if_done([batch.pk], now=NOW)
    finalization.finalize(batch.pk)
    assert _groups(batch) == {"http_400": 3}


@pytest.mark.django_db(transaction=True)
def test_lanes_that_count_at_the_same_moment_miss_nothing() -> None:
    """Each reads the groups under the lock of the batch's row, which it has just changed."""
    batch = BatchFactory(status=Status.IN_PROGRESS)

    def run(first: int) -> None:
        held = lanes.acquire(LaneFactory().pk, now=NOW)
        assert held is not None
        for number in range(first, first + 10):
            _flush(held, batch, _failed(number), _failed(number + 100, code=f"c{number % 10}"))

    at_once([partial(run, first) for first in (1, 21, 41)])
    groups = _groups(batch)
    assert groups.pop("http_400") == 30
    assert groups == {f"http_400 c{number}": 3 for number in range(10)}
