"""Why a batch waits: the cause that stands in its way, with its numbers."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from batches_app import waiting
from batches_app.models import Batch, Lane, LaneMinute, ServedModel
from batches_app.states import Status
from batches_app.waiting import Cause, Reason
from tests.factories import AccountFactory, BatchFactory, LaneFactory, ServedModelFactory, ShardFactory

pytestmark = pytest.mark.django_db
NOW = timezone.now()
SINCE = NOW - timedelta(minutes=5)
STANDSTILLS = {Cause.PAUSED, Cause.UPSTREAM_DOWN, Cause.NO_LANE}


@pytest.fixture
def model() -> ServedModel:
    found: ServedModel = ServedModelFactory()
    return found


def lane_of(model: ServedModel, **columns: Any) -> Lane:
    facts = {"permits": 32, "limit": 32, "lease_expires_at": timezone.now() + timedelta(minutes=1), "owner": "host:1"}
    lane: Lane = LaneFactory(model=model, **(facts | columns))
    return lane


def batch_of(model: ServedModel, shard: str = "waiting", **columns: Any) -> Batch:
    batch: Batch = BatchFactory(model=model, **columns)
    facts = {"model": model, "account": batch.account, "deadline": batch.expires_at, "state": shard}
    ShardFactory(batch=batch, **facts)
    return batch


def why(batch: Batch) -> list[Reason]:
    """Also what the database says of standstills, by which ends are foretold, agrees with what is told of them."""
    now = timezone.now()
    reasons = waiting.why_waiting(batch, now=now)
    if batch.status == Status.IN_PROGRESS:
        stands = Batch.objects.filter(waiting.at_a_standstill(now), pk=batch.pk).exists()
        assert stands is any(reason.cause in STANDSTILLS for reason in reasons)
    return reasons


def causes(batch: Batch) -> list[Cause]:
    return [reason.cause for reason in why(batch)]


@pytest.mark.parametrize(
    ("status", "columns", "cause"),
    [
        (Status.VALIDATING, {}, Cause.VALIDATION_WAITS),
        (Status.VALIDATING, {"stage_expires_at": NOW + timedelta(hours=1)}, Cause.VALIDATING),
        (Status.VALIDATING, {"stage_expires_at": SINCE}, Cause.VALIDATION_WAITS),
        (Status.FINALIZING, {"sealed_at": NOW}, Cause.MERGE_WAITS),
        (Status.FINALIZING, {"sealed_at": NOW, "stage_expires_at": NOW + timedelta(hours=1)}, Cause.MERGING),
        (Status.CANCELLING, {}, Cause.MERGE_WAITS),
    ],
)
def test_a_stage_waits_for_a_worker_or_has_one(status: Status, columns: dict[str, Any], cause: Cause) -> None:
    assert causes(BatchFactory(status=status, **columns)) == [cause]


def test_a_stopped_batch_waits_for_what_is_in_flight(model: ServedModel) -> None:
    batch = batch_of(model, "running", status=Status.CANCELLING, cancelling_at=SINCE)
    assert why(batch) == [Reason(Cause.LAST_ANSWERS, since=SINCE)]


def test_a_paused_model_holds_everything_up(model: ServedModel) -> None:
    model.paused_at, model.paused_by, model.paused_reason = SINCE, "olga", "new cards"
    model.save()
    lane_of(model)
    assert why(batch_of(model)) == [Reason(Cause.PAUSED, since=SINCE, said="olga · new cards")]


def test_without_a_lane_at_work_nobody_sends_its_requests(model: ServedModel) -> None:
    lane_of(model, lease_expires_at=SINCE)
    assert causes(batch_of(model)) == [Cause.NO_LANE]


def test_an_upstream_that_is_away_is_told_with_what_it_said(model: ServedModel) -> None:
    lane_of(model, paused_since=SINCE, pause_reason="connection refused")
    assert why(batch_of(model, "running")) == [Reason(Cause.UPSTREAM_DOWN, since=SINCE, said="connection refused")]


def test_while_one_of_two_lanes_works_the_upstream_is_not_away(model: ServedModel) -> None:
    lane_of(model, paused_since=SINCE, pause_reason="429", limit=4)
    lane_of(model)
    assert why(batch_of(model, "running")) == [Reason(Cause.THROTTLED, number=36, most=64, said="429")]


def answered(model: ServedModel, minutes_ago: int, answers: int, throttled: int) -> None:
    lane = model.lanes.get()
    minute = timezone.now().replace(second=0, microsecond=0) - timedelta(minutes=minutes_ago)
    facts = {"lane": lane, "lane_token": 1, "answers": answers, "throttled": throttled}
    LaneMinute.objects.create(model=model, minute=minute, **facts)


def test_throttling_is_told_since_the_last_minute_in_which_all_was_well(model: ServedModel) -> None:
    lane_of(model, limit=4, pause_reason="HTTP 429")
    for minutes_ago, answers, throttled in ((50, 9, 9), (40, 9, 0), (31, 0, 0), (30, 9, 2), (20, 0, 0), (10, 5, 1)):
        answered(model, minutes_ago, answers, throttled)
    answered(model, 0, 3, 0)  # the present minute has not met it yet
    (reason,) = why(batch_of(model, "running"))
    assert (reason.cause, reason.said) == (Cause.THROTTLED, "HTTP 429")
    assert reason.since == timezone.now().replace(second=0, microsecond=0) - timedelta(minutes=30)


def test_a_model_that_recovers_from_throttling_is_not_said_to_throttle(model: ServedModel) -> None:
    lane_of(model, limit=4)
    answered(model, 1, 9, 2)
    assert why(batch_of(model, "running")) == [Reason(Cause.THROTTLED, number=4, most=32)]


def test_a_batch_that_gets_on_waits_for_nothing(model: ServedModel) -> None:
    lane_of(model, in_flight=32)
    assert why(batch_of(model, "running")) == []


def test_a_full_model_batches_ahead_and_other_accounts_are_counted(model: ServedModel) -> None:
    lane_of(model, in_flight=32)
    mine = AccountFactory()
    soon = timezone.now() + timedelta(hours=1)
    for _ in range(2):
        batch_of(model, account=mine, expires_at=soon)
    for _ in range(3):
        batch_of(model, "running")
    reasons = why(batch_of(model, account=mine))
    assert reasons == [
        Reason(Cause.FULL, number=32, most=32),
        Reason(Cause.AHEAD, number=2),
        Reason(Cause.SHARED, number=3),
    ]


@pytest.mark.parametrize("status", ["completed", "failed", "expired", "cancelled"])
def test_a_batch_that_has_ended_waits_for_nothing(status: str) -> None:
    assert why(BatchFactory(status=status)) == []
