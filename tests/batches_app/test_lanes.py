from datetime import timedelta
from unittest.mock import ANY

import pytest
from django.conf import settings
from django.utils import timezone
from structlog.contextvars import bound_contextvars, get_contextvars

from batches_app import lanes, poison, queue, routing
from batches_app.lanes import LeaseLost, Report
from batches_app.models import BatchEvent, Lane, Shard
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
    lanes.free_lanes_of(lane.owner, now=NOW)
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
    lanes.release(held, now=NOW)
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


# ---- what is noted of batches


def _events() -> list[tuple[str, str, str]]:
    return list(BatchEvent.objects.values_list("kind", "lane", "owner"))


def test_a_batch_whose_lane_died_says_so_once() -> None:
    """However many of its shards the lane had; a batch with nothing on the lane has lost nothing."""
    lane = LaneFactory()
    batch = BatchFactory()
    for _ in range(2):
        ShardFactory(model=lane.model, batch=batch)
    held = _held(lane)
    owner = held.owner
    assert lanes.claim(held)
    assert lanes.claim(held)
    ShardFactory(model=lane.model)
    for _ in range(2):
        lanes.free_dead(now=LATER)
    assert _events() == [("lost", str(lane), owner)]
    assert BatchEvent.objects.get().batch == batch
    assert BatchEvent.objects.get().at == LATER


def test_a_lane_that_another_takes_over_was_lost_by_its_last_holder() -> None:
    lane = LaneFactory()
    ShardFactory(model=lane.model)
    lanes.claim(_held(lane))
    Lane.objects.update(owner="elsewhere:1")
    held = lanes.acquire(lane.pk, now=LATER)
    assert held is not None
    assert _events() == [("lost", str(lane), "elsewhere:1")]
    assert Shard.objects.get().state == Shard.State.WAITING
    assert held.owner != "elsewhere:1"


def test_the_batches_of_a_process_known_to_be_dead_are_lost() -> None:
    lane = LaneFactory()
    ShardFactory(model=lane.model)
    held = _held(lane)
    lanes.claim(held)
    lanes.free_lanes_of(held.owner, now=NOW)
    assert _events() == [("lost", str(lane), held.owner)]


def test_a_lane_that_is_given_back_releases_its_batches() -> None:
    lane = LaneFactory()
    shard = ShardFactory(model=lane.model)
    held = _held(lane)
    lanes.claim(held)
    lanes.release(held, [shard.batch_id], now=NOW)
    assert _events() == [("released", str(lane), held.owner)]
    lanes.acquire(lane.pk, now=LATER)
    assert len(_events()) == 1  # and nothing was lost


def test_who_lost_the_lane_releases_nothing() -> None:
    lane = LaneFactory()
    shard = ShardFactory(model=lane.model)
    held = _held(lane)
    lanes.claim(held)
    lanes.free_dead(now=LATER)
    lanes.release(held, [shard.batch_id], now=LATER)
    assert [kind for kind, *_ in _events()] == ["lost"]


# ---- paused models


def test_a_paused_model_is_left_alone_until_it_is_resumed(rung: list[object]) -> None:
    """No lane of it is taken or woken, and nobody gives way to it."""
    lane, other = LaneFactory(), LaneFactory()
    ShardFactory(model=lane.model)
    routing.pause(lane.model, by="olga", reason="upgrade", now=NOW)
    assert lanes.acquire(lane.pk, now=NOW) is None
    assert lanes.ring_lanes(lane.model_id) == []
    assert not lanes.models_with_waiting().exists()
    assert not lanes.others_wait(other.model_id)
    assert rung == []
    routing.resume(lane.model, now=LATER)
    assert rung == [(queue.Job.RUN_LANE, {"once_per": ANY, "lane_id": lane.pk})]
    assert lanes.others_wait(other.model_id)
    assert lanes.acquire(lane.pk, now=NOW) is not None


def test_a_death_counts_against_the_shards_in_hand_and_the_line_that_was_noted() -> None:
    lane = LaneFactory()
    shard = ShardFactory(model=lane.model)
    for crashes in (1, 2):
        held = lanes.acquire(lane.pk, now=NOW)
        assert held is not None
        assert (lanes.claim(held) or lanes.claim_suspect(held)) == shard
        poison.about_to_send(lanes.shards_of(held), 7)
        assert lanes.free_dead(now=LATER) == 1
        shard.refresh_from_db()
        assert (shard.losses, shard.crashes, shard.suspect_line) == (crashes, {"7": crashes}, None)


def test_a_holder_that_gives_its_lane_back_has_not_died() -> None:
    lane = LaneFactory()
    shard = ShardFactory(model=lane.model)
    held = _held(lane)
    lanes.claim(held)
    poison.about_to_send(lanes.shards_of(held), 7)
    lanes.release(held, now=NOW)
    second = _held(lane)
    assert lanes.claim(second) == shard
    assert lanes.free_dead(now=LATER) == 1
    shard.refresh_from_db()
    assert (shard.losses, shard.crashes) == (1, {})


def test_what_is_logged_from_here_on_is_about_the_lane() -> None:
    lane = LaneFactory()
    with bound_contextvars(lane=""):
        lanes.acquire(lane.pk, now=NOW)
        assert get_contextvars()["lane"] == str(lane)
