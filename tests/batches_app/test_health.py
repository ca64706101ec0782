"""What is said of models, by their lanes."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from batches_app import health, traffic
from batches_app.health import Health, State
from batches_app.models import Lane, LaneMinute, ServedModel, Shard
from batches_app.states import Status
from tests.factories import BatchFactory, LaneFactory, ServedModelFactory, ShardFactory

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 11, 24, 2, 30, 20, tzinfo=UTC)
LEASE = NOW + timedelta(seconds=15)


def health_of(model: ServedModel) -> Health:
    (found,) = [one for one in health.of_models(NOW) if one.model == model]
    return found


def held(model: ServedModel, **columns: Any) -> Lane:
    lane: Lane = LaneFactory(model=model, owner="host:1", lease_expires_at=LEASE, limit=8)
    Lane.objects.filter(pk=lane.pk).update(**columns)
    return lane


@pytest.fixture
def model() -> ServedModel:
    return ServedModelFactory(max_concurrency=16)  # type: ignore[no-any-return]


def test_a_model_whose_lane_is_held_is_up(model: ServedModel) -> None:
    held(model)
    assert health_of(model).state is State.UP


def test_a_model_with_nothing_to_do_is_idle(model: ServedModel) -> None:
    LaneFactory(model=model)
    assert health_of(model).state is State.IDLE


def test_a_model_is_down_when_all_its_lanes_wait_for_the_upstream(model: ServedModel) -> None:
    since = NOW - timedelta(minutes=28)
    held(model, paused_since=since, pause_reason="connection refused")
    held(model, paused_since=since + timedelta(seconds=1), pause_reason="no answer")
    found = health_of(model)
    assert (found.state, found.since, found.reason) == (State.DOWN, since, "connection refused")


def test_a_model_that_serves_one_lane_and_not_another_is_not_down(model: ServedModel) -> None:
    """One machine may have lost its way to the upstream."""
    held(model, paused_since=NOW, pause_reason="connection refused")
    held(model)
    found = health_of(model)
    assert (found.state, found.reason) == (State.THROTTLED, "connection refused")


@pytest.mark.parametrize("said", [{"limit": 3}, {"pause_reason": "429"}])
def test_a_model_is_throttled_while_its_limit_is_cut_or_it_is_asked_to_wait(
    model: ServedModel, said: dict[str, Any]
) -> None:
    held(model, **said)
    assert health_of(model).state is State.THROTTLED


def test_a_lane_that_was_just_taken_is_not_throttled(model: ServedModel) -> None:
    """Its holder has not said anything yet: 0 is no limit."""
    held(model, limit=0)
    found = health_of(model)
    assert (found.state, found.limit) == (State.UP, 8)


def test_what_a_dead_holder_said_counts_no_more(model: ServedModel) -> None:
    held(model, lease_expires_at=NOW - timedelta(seconds=1), paused_since=NOW, pause_reason="x", in_flight=5)
    found = health_of(model)
    assert (found.state, found.in_flight, found.reason) == (State.IDLE, 0, "")


def test_requests_that_wait_without_a_lane_are_unserved(model: ServedModel) -> None:
    LaneFactory(model=model)
    shard: Shard = ShardFactory(model=model)
    assert health_of(model).state is State.UNSERVED
    Shard.objects.filter(pk=shard.pk).update(state=Shard.State.RUNNING)
    assert health_of(model).state is State.IDLE


def test_shards_of_a_batch_that_was_stopped_wait_for_nobody(model: ServedModel) -> None:
    ShardFactory(model=model, batch=BatchFactory(status=Status.CANCELLING))
    assert health_of(model).state is State.IDLE


def test_a_paused_model_is_paused_whatever_its_lanes_say(model: ServedModel) -> None:
    held(model, paused_since=NOW, pause_reason="connection refused", in_flight=2)
    ServedModel.objects.update(paused_at=NOW - timedelta(hours=1))
    found = health_of(model)
    assert (found.state, found.since, found.reason) == (State.PAUSED, NOW - timedelta(hours=1), "")
    assert found.in_flight == 2  # it is let finish


def test_the_limit_is_what_throttling_leaves_of_all_lanes(model: ServedModel) -> None:
    held(model, limit=3, in_flight=2)
    held(model, limit=8, in_flight=8)
    LaneFactory(model=model, permits=8)
    held(model, permits=0, limit=8)  # it has lost its permits, and drains
    found = health_of(model)
    assert (found.in_flight, found.limit) == (10, 3 + 8 + 8)


def test_rates_are_of_the_last_fifteen_minutes(model: ServedModel) -> None:
    lane = held(model)
    slow = [0] * (len(traffic.BOUNDS_MS) + 1)
    slow[5] = 100
    for age, answers in ((1, 460), (15, 460), (16, 9999)):
        minute = (NOW - timedelta(minutes=age)).replace(second=0)
        LaneMinute.objects.create(
            model=model, lane=lane, lane_token=1, minute=minute, answers=answers, faults=46, latency=slow
        )
    found = health_of(model)
    assert found.per_second == pytest.approx(920 / (15 * 60 + 20))
    assert found.recent.faults == 92
    bounds = [bound / 1000 for bound in traffic.BOUNDS_MS[4:6]]
    assert found.median is not None
    assert found.slowest is not None
    assert bounds[0] < found.median < found.slowest <= bounds[1]


def test_without_answers_there_is_no_latency(model: ServedModel) -> None:
    found = health_of(model)
    assert (found.median, found.slowest, found.per_second) == (None, None, 0)


def test_it_takes_three_queries_for_any_number_of_models(django_assert_num_queries: Any) -> None:
    for _ in range(4):
        held(ServedModelFactory())
    with django_assert_num_queries(3):
        health.of_models(NOW)


def test_demand_is_what_has_no_result_yet(model: ServedModel) -> None:
    BatchFactory(model=model, total=100, completed=30, failed=10)
    BatchFactory(model=model, total=5)
    BatchFactory(model=model, total=70, status=Status.COMPLETED)
    BatchFactory(model=None, status=Status.VALIDATING)
    assert health.demand() == {model.pk: (2, 65)}


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://vllm:8000/v1", "http://vllm:8000/v1"),
        ("https://user:secret@host/v1", "https://host/v1"),
        ("https://host/v1?key=secret#x", "https://host/v1"),
        ("http://[broken/v1", ""),
    ],
)
def test_an_address_is_shown_without_secrets(url: str, shown: str) -> None:
    assert health.without_credentials(url) == shown
