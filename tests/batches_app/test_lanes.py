from datetime import timedelta
from unittest.mock import ANY

import pytest
from django.conf import settings
from django.utils import timezone

from batches_app import lanes, queue
from batches_app.lanes import LeaseLost, Report
from batches_app.models import Lane, Shard
from batches_app.states import Status
from tests.factories import AccountFactory, BatchFactory, LaneFactory, ShardFactory

pytestmark = pytest.mark.django_db
NOW = timezone.now()
LATER = NOW + timedelta(seconds=settings.LANE_LEASE + 1)


@pytest.fixture(autouse=True)
def rung(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    bells: list[object] = []
    monkeypatch.setattr(queue, "ring", lambda job, **facts: bells.append((job, facts)))
    return bells


def _held(lane: Lane) -> lanes.HeldLane:
    held = lanes.acquire(lane.pk, now=NOW)
    assert held is not None
    return held


def test_a_lane_that_is_held_cannot_be_taken() -> None:
    lane = LaneFactory()
    _held(lane)
    assert lanes.acquire(lane.pk, now=NOW) is None


def test_a_lane_without_permits_cannot_be_taken() -> None:
    assert lanes.acquire(LaneFactory(permits=0).pk, now=NOW) is None


def test_a_holder_whose_lane_was_taken_over_cannot_renew() -> None:
    lane = LaneFactory()
    first = _held(lane)
    second = lanes.acquire(lane.pk, now=LATER)
    assert second is not None
    with pytest.raises(LeaseLost):
        lanes.renew(first, Report(), now=LATER)
    lanes.renew(second, Report(), now=LATER)


def test_a_lease_that_ran_out_and_was_taken_by_nobody_is_still_good() -> None:
    held = _held(LaneFactory())
    lanes.renew(held, Report(), now=LATER)


def test_the_shards_of_a_dead_lane_wait_again_and_its_holder_is_fenced_off() -> None:
    lane = LaneFactory()
    shard = ShardFactory(model=lane.model)
    held = _held(lane)
    assert lanes.claim(held) == shard
    assert lanes.free_dead(now=NOW) == 0
    assert lanes.free_dead(now=LATER) == 1
    shard.refresh_from_db()
    assert shard.state == Shard.State.WAITING
    with pytest.raises(LeaseLost):
        lanes.renew(held, Report(), now=LATER)
    assert lanes.claim(held) is None


def test_the_lanes_of_a_process_known_to_be_dead_are_freed_at_once(rung: list[object]) -> None:
    lane = LaneFactory()
    shard = ShardFactory(model=lane.model)
    lanes.claim(_held(lane))
    lane.refresh_from_db()
    lanes.free_lanes_of(lane.owner)
    shard.refresh_from_db()
    assert shard.state == Shard.State.WAITING
    assert rung == [(queue.Job.RUN_LANE, {"once_per": ANY, "lane_id": lane.pk})]


def test_a_shard_of_a_stopped_batch_is_closed_when_it_is_freed() -> None:
    lane = LaneFactory()
    shard = ShardFactory(model=lane.model)
    held = _held(lane)
    lanes.claim(held)
    shard.batch.status = Status.CANCELLING
    shard.batch.save()
    lanes.release(held)
    shard.refresh_from_db()
    assert shard.state == Shard.State.CLOSED


def test_a_shard_of_a_stopped_batch_is_not_claimed() -> None:
    lane = LaneFactory()
    ShardFactory(model=lane.model, batch=BatchFactory(status=Status.CANCELLING))
    assert lanes.claim(_held(lane)) is None


def test_the_account_with_the_least_in_flight_is_next() -> None:
    lane = LaneFactory()
    held = _held(lane)
    busy, idle = BatchFactory(), BatchFactory()
    for batch in (busy, busy, idle):
        ShardFactory(model=lane.model, batch=batch)
    claimed = [shard.batch for _ in range(3) if (shard := lanes.claim(held))]
    assert claimed[:2] in ([busy, idle], [idle, busy])


def test_an_account_of_twice_the_weight_gets_twice_the_share() -> None:
    lane = LaneFactory()
    held = _held(lane)
    heavy, light = BatchFactory(account=AccountFactory(weight=2)), BatchFactory()
    for _ in range(4):
        ShardFactory(model=lane.model, batch=heavy)
        ShardFactory(model=lane.model, batch=light)
    claimed = [shard.batch for _ in range(6) if (shard := lanes.claim(held))]
    assert (claimed.count(heavy), claimed.count(light)) == (4, 2)


def test_within_an_account_the_nearest_deadline_is_next() -> None:
    lane = LaneFactory()
    account = AccountFactory()
    late = BatchFactory(account=account, expires_at=NOW + timedelta(hours=9))
    soon = BatchFactory(account=account, expires_at=NOW + timedelta(hours=1))
    ShardFactory(model=lane.model, batch=late)
    urgent = ShardFactory(model=lane.model, batch=soon)
    assert lanes.claim(_held(lane)) == urgent


def test_no_more_lanes_are_woken_than_there_are_shards(rung: list[object]) -> None:
    lane = LaneFactory()
    LaneFactory(model=lane.model)
    ShardFactory(model=lane.model)
    lanes.ring_lanes(lane.model_id)
    assert len(rung) == 1


def test_a_busy_lane_gives_way_to_a_model_that_nobody_works_on() -> None:
    lane, other = LaneFactory(), LaneFactory()
    assert not lanes.others_wait(lane.model_id)
    ShardFactory(model=other.model)
    assert lanes.others_wait(lane.model_id)
    _held(other)
    assert not lanes.others_wait(lane.model_id)
