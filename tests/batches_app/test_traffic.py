"""The minutes of lanes, as they are counted, written and read."""

from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batches_app import checkpoints, lanes, traffic
from batches_app.lanes import HeldLane, LeaseLost, Report
from batches_app.models import Lane, LaneMinute
from batches_app.traffic import BOUNDS_MS, Minute, Tally, by_model, per_minute, percentile
from billing_app.pricing import Tokens
from tests.factories import LaneFactory
from tests.threads import at_once

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
HALF_PAST = NOON + timedelta(seconds=30)
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)


def in_bin(number: int, count: int = 1) -> list[int]:
    counts = [0] * (len(BOUNDS_MS) + 1)
    counts[number] = count
    return counts


def _held(lane: Lane) -> HeldLane:
    held = lanes.acquire(lane.pk, now=NOON)
    assert held is not None
    return held


def _flush(held: HeldLane, tally: Tally, now: datetime) -> None:
    checkpoints.flush(held, [], [], Report(minute=tally.unwritten()), now=now)


def _row(lane: Lane, minute: datetime = NOON, **counts: Any) -> LaneMinute:
    return LaneMinute.objects.create(model=lane.model, lane=lane, lane_token=1, minute=minute, **counts)


# ---- counting


def test_answers_are_counted_by_what_they_say_of_the_upstream() -> None:
    minute = Minute(NOON)
    for status, throttled in ((200, False), (400, False), (429, True), (503, True), (500, False), (0, False)):
        minute.answered(status, 0.1, throttled=throttled)
    assert (minute.answers, minute.throttled, minute.faults) == (6, 2, 2)


def test_only_true_answers_count_for_latency() -> None:
    """A thousand refusals within a millisecond say nothing of how long an answer takes."""
    minute = Minute(NOON)
    minute.answered(200, 2.0, throttled=False)
    for status in (429, 400, 0):
        minute.answered(status, 0.001, throttled=status == 429)
    assert sum(minute.latency) == 1
    assert BOUNDS_MS[minute.latency.index(1) - 1] < 2000 <= BOUNDS_MS[minute.latency.index(1)]


def test_the_bounds_go_from_50_ms_to_15_minutes_in_even_steps() -> None:
    assert (BOUNDS_MS[0], BOUNDS_MS[-1]) == (50, 900_000)
    assert all(1.4 < upper / lower < 1.6 for lower, upper in pairwise(BOUNDS_MS))


def test_a_line_counts_with_the_tokens_of_its_usage() -> None:
    minute = Minute(NOON)
    minute.finished(True, Tokens(10, 4, 3))
    minute.finished(True, None)
    minute.finished(False, None)
    assert (minute.completed, minute.failed, minute.input_tokens, minute.output_tokens) == (2, 1, 10, 3)


# ---- writing


@pytest.mark.django_db
def test_a_minute_is_written_whole_each_time() -> None:
    """However often, and also where the answer to a commit was lost."""
    held, tally = _held(LaneFactory()), Tally(HALF_PAST)
    for _ in range(3):
        tally.minute.answered(200, 0.01, throttled=False)
        tally.minute.finished(True, Tokens(5, 0, 2))
        _flush(held, tally, HALF_PAST)
        _flush(held, tally, HALF_PAST)  # again: the first was not answered
        tally.written(HALF_PAST)
    row = LaneMinute.objects.get()
    assert (row.minute, row.answers, row.completed, row.input_tokens) == (NOON, 3, 3, 15)
    assert row.latency == in_bin(0, 3)


@pytest.mark.django_db
def test_the_next_minute_begins_anew() -> None:
    held, tally = _held(LaneFactory()), Tally(NOON)
    for moment in (NOON, NOON + MINUTE, NOON + MINUTE):
        tally.minute.finished(False, None)
        _flush(held, tally, moment)
        tally.written(moment + MINUTE / 2)
    rows = LaneMinute.objects.values_list("minute", "failed")
    assert list(rows) == [(NOON, 2), (NOON + MINUTE, 1)]  # what came in before the turn belongs before it


@pytest.mark.django_db
def test_a_lane_with_nothing_new_writes_nothing() -> None:
    held, tally = _held(LaneFactory()), Tally(NOON)
    assert tally.unwritten() is None
    _flush(held, tally, NOON)
    tally.minute.answered(0, 1.0, throttled=False)
    assert tally.unwritten() is tally.minute
    tally.written(NOON)
    assert tally.unwritten() is None
    assert not LaneMinute.objects.exists()


@pytest.mark.django_db
def test_who_lost_the_lane_writes_no_minute() -> None:
    held = _held(LaneFactory())
    late = HeldLane(held.id, held.model_id, held.token - 1)
    tally = Tally(NOON)
    tally.minute.finished(True, None)
    with pytest.raises(LeaseLost):
        _flush(late, tally, NOON)
    assert not LaneMinute.objects.exists()


@pytest.mark.django_db
def test_two_holders_of_a_lane_in_one_minute_do_not_overwrite_each_other() -> None:
    lane = LaneFactory()
    for _ in range(2):
        held, tally = _held(lane), Tally(NOON)
        tally.minute.finished(True, None)
        _flush(held, tally, NOON)
        lanes.release(held, now=NOON)
    assert [minute.completed for minute in per_minute(NOON, NOON)] == [2]


@pytest.mark.django_db
def test_minutes_are_kept_for_two_days() -> None:
    lane = LaneFactory()
    for hours in (49, 47):
        _row(lane, NOON - timedelta(hours=hours), is_summed=True)
    traffic.prune(NOON)
    assert LaneMinute.objects.get().minute == NOON - timedelta(hours=47)


@pytest.mark.django_db
def test_a_minute_stays_until_it_is_summed_up() -> None:
    _row(LaneFactory(), NOON - timedelta(hours=49))
    traffic.prune(NOON)
    assert LaneMinute.objects.exists()


# ---- of all time


@pytest.mark.django_db
def test_what_was_counted_stays_counted_when_its_minutes_are_gone() -> None:
    """A counter that shrinks is taken for one that began anew, and what it has left is counted a second time."""
    lane = LaneFactory()
    _row(lane, NOON - 3 * DAY, completed=5, answers=7, latency=in_bin(2, 5), waited_ms=500)
    _row(lane, NOON, completed=1, answers=1, latency=in_bin(3), waited_ms=90)
    before = traffic.of_all_time(NOON)[lane.model_id]
    for _ in range(2):
        traffic.sum_up(NOON)
        traffic.prune(NOON)
        after = traffic.of_all_time(NOON)[lane.model_id]
        assert after == before
    assert (after.completed, after.answers, after.waited_ms, sum(after.latency)) == (6, 8, 590, 6)
    assert LaneMinute.objects.get().minute == NOON


@pytest.mark.django_db
def test_a_minute_that_comes_late_is_counted_too() -> None:
    """Its holder could not write for hours, and the minutes around it are summed up long since."""
    lane = LaneFactory()
    for age in (1, 3):
        _row(lane, NOON - timedelta(hours=age), failed=1)
        traffic.sum_up(NOON)
    _row(lane, NOON - timedelta(hours=2), failed=1)
    traffic.sum_up(NOON)
    assert traffic.of_all_time(NOON)[lane.model_id].failed == 3
    assert not LaneMinute.objects.filter(is_summed=False).exists()


@pytest.mark.django_db
def test_the_last_minutes_wait_for_their_holders() -> None:
    """Who holds the lane writes them again, and whole."""
    held, tally = _held(LaneFactory()), Tally(NOON)
    for _ in range(2):
        tally.minute.finished(True, None)
        _flush(held, tally, NOON)
        tally.written(NOON)
        traffic.sum_up(NOON + 4 * MINUTE)
    assert traffic.of_all_time(NOON)[held.model_id].completed == 2


@pytest.mark.django_db
def test_models_are_told_apart() -> None:
    lanes_ = [LaneFactory(), LaneFactory()]
    for lane, count in zip(lanes_, (3, 4), strict=True):
        _row(lane, NOON - DAY, checkpoints=count)
    traffic.sum_up(NOON)
    assert [traffic.of_all_time(NOON)[lane.model_id].checkpoints for lane in lanes_] == [3, 4]


@pytest.mark.django_db(transaction=True)
def test_two_reconcilers_at_once_sum_up_once() -> None:
    lane = LaneFactory()
    for minutes in range(10, 40):
        _row(lane, NOON - minutes * MINUTE, completed=1)
    at_once([partial(traffic.sum_up, NOON)] * 4)
    assert traffic.of_all_time(NOON)[lane.model_id].completed == 30


# ---- reading


@pytest.mark.django_db
def test_minutes_add_up_over_lanes_and_have_no_gaps() -> None:
    lane, other = LaneFactory(), LaneFactory()
    for each in (lane, other, LaneFactory(model=lane.model)):
        _row(each, NOON, completed=1, throttled=2, latency=in_bin(3))
    _row(lane, NOON + 2 * MINUTE, output_tokens=7)
    _row(lane, NOON - MINUTE, completed=100)  # too early
    _row(lane, NOON + 3 * MINUTE, completed=100)  # too late
    until = NOON + 2 * MINUTE + timedelta(seconds=59)
    minutes = per_minute(HALF_PAST, until)
    assert [minute.minute for minute in minutes] == [NOON, NOON + MINUTE, NOON + 2 * MINUTE]
    assert [minute.completed for minute in minutes] == [3, 0, 0]
    assert [minute.output_tokens for minute in minutes] == [0, 0, 7]
    assert (minutes[0].throttled, minutes[0].latency) == (6, in_bin(3, 3))
    assert [minute.completed for minute in per_minute(HALF_PAST, until, lane.model)] == [2, 0, 0]


@pytest.mark.django_db
def test_models_are_summed_apart() -> None:
    lane, other, idle = LaneFactory(), LaneFactory(), LaneFactory()
    _row(lane, NOON, answers=1, latency=in_bin(1))
    _row(lane, NOON + MINUTE, answers=2, faults=1, latency=in_bin(2))
    _row(other, NOON + MINUTE, answers=4)
    sums = by_model(NOON, NOON + MINUTE)
    assert {pk: minute.answers for pk, minute in sums.items()} == {lane.model_id: 3, other.model_id: 4}
    assert (sums[lane.model_id].faults, sum(sums[lane.model_id].latency)) == (1, 2)
    assert idle.model_id not in sums


@pytest.mark.django_db
def test_a_histogram_with_other_bounds_is_left_out() -> None:
    """Of an older version: added up bin by bin it would be wrong."""
    _row(LaneFactory(), NOON, answers=5, latency=[1, 2, 3])
    (minute,) = per_minute(NOON, NOON)
    assert (minute.answers, sum(minute.latency)) == (5, 0)


def test_of_no_answers_there_is_no_percentile() -> None:
    assert percentile(Minute(NOON).latency, 95) is None


def test_a_percentile_lies_within_its_bin() -> None:
    counts = [a + b for a, b in zip(in_bin(4, 90), in_bin(9, 10), strict=True)]
    median, p95 = percentile(counts, 50), percentile(counts, 95)
    assert median is not None
    assert p95 is not None
    assert BOUNDS_MS[3] < median < BOUNDS_MS[4]
    assert BOUNDS_MS[8] < p95 < BOUNDS_MS[9]
    assert percentile(in_bin(len(BOUNDS_MS)), 50) == 900_000  # longer than the last bound


@given(st.lists(st.floats(0.001, 2000), min_size=1), st.floats(0, 100), st.floats(0, 100))
def test_percentiles_never_fall(seconds: list[float], p: float, q: float) -> None:
    minute = Minute(NOON)
    for each in seconds:
        minute.answered(200, each, throttled=False)
    low, high = percentile(minute.latency, min(p, q)), percentile(minute.latency, max(p, q))
    assert low is not None
    assert high is not None
    assert 0 <= low <= high <= 900_000
