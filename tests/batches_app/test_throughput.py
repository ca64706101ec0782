"""What charts are made of."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from batches_app import throughput
from batches_app.models import Lane, LaneMinute
from tests.factories import LaneFactory

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 11, 24, 10, 17, 15, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
PRESENT = NOW.replace(second=0)


@pytest.fixture
def lane() -> Lane:
    return LaneFactory()  # type: ignore[no-any-return]


def did(lane: Lane, minutes_ago: int, completed: int = 0, failed: int = 0, tokens: int = 0, token: int = 1) -> None:
    LaneMinute.objects.create(
        model=lane.model,
        lane=lane,
        lane_token=token,
        minute=PRESENT - minutes_ago * MINUTE,
        completed=completed,
        failed=failed,
        input_tokens=tokens,
        output_tokens=tokens // 2,
    )


@pytest.mark.parametrize(("hours", "minutes"), [(1, 1), (6, 5), (24, 15)])
def test_a_chart_has_even_steps_up_to_the_minute_that_runs(hours: int, minutes: int) -> None:
    steps = throughput.of_last(hours, NOW).steps
    times = [step.at for step in steps]
    assert {after - at for at, after in pairwise(times)} == {minutes * MINUTE}
    assert all(at.minute % minutes == 0 for at in times)
    assert times[0] <= PRESENT - timedelta(hours=hours) < times[1]
    assert times[-1] + steps[-1].minutes * MINUTE == PRESENT
    assert len(steps) <= 100


def test_the_lanes_of_a_minute_are_summed_up(lane: Lane) -> None:
    did(lane, 1, completed=100, failed=20, tokens=3000)
    did(lane, 1, completed=50, failed=10, tokens=600, token=2)
    last = throughput.of_last(1, NOW).steps[-1]
    assert (last.lines_per_second, last.failed_per_second) == (3, 0.5)
    assert (last.tokens_per_minute, last.output_per_minute) == (3600 * 1.5, 1800)


def test_a_step_that_has_not_ended_is_measured_by_the_minutes_that_it_has(lane: Lane) -> None:
    """10:17 is two minutes into a step of five: what it has so far is not to look like a fall."""
    for age in range(1, 60):
        did(lane, age, completed=60)
    steps = throughput.of_last(6, NOW).steps
    assert [step.minutes for step in steps[-2:]] == [5, 2]
    assert [step.lines_per_second for step in steps[-2:]] == [1, 1]


def test_the_last_minute_is_the_last_sixty_seconds(lane: Lane) -> None:
    did(lane, 0, completed=30, tokens=100)
    did(lane, 1, completed=120, tokens=400)
    found = throughput.of_last(1, NOW)
    assert found.lines_per_second == pytest.approx((30 + 0.75 * 120) / 60)
    assert found.tokens_per_minute == pytest.approx(150 + 0.75 * 600)


def test_the_last_hour_is_an_hour_whatever_the_chart_shows(lane: Lane) -> None:
    did(lane, 0, completed=1)
    did(lane, 59, completed=10, failed=2)
    did(lane, 60, completed=1000)
    for hours in throughput.STEPS:
        assert throughput.of_last(hours, NOW).last_hour[:2] == (11, 2)


def test_a_model_has_its_last_sixty_minutes(lane: Lane) -> None:
    other = LaneFactory()
    did(lane, 1, completed=5, failed=1)
    did(lane, 60, completed=7)
    did(lane, 0, completed=99)
    did(lane, 61, completed=99)
    did(other, 30, completed=3)
    found = throughput.of_models(NOW)
    assert found[lane.model_id] == [7] + [0] * 58 + [6]
    assert found[other.model_id][30] == 3
