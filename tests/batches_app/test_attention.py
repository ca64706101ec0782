"""What an operator is told to look at: each thing alone, that nothing else is told, and who is meant."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone

from batches_app import attention, health, progress
from batches_app.attention import Item, Kind, Review
from batches_app.console import concerns
from batches_app.models import Batch, Lane, LaneMinute, ReconcileRun, ServedModel, Shard
from batches_app.queue import Snapshot, WorkerState
from batches_app.states import Status
from billing_app import months
from billing_app.models import Account, Balance, BudgetAlert
from tests import books
from tests.factories import AccountFactory, BatchFactory, LaneFactory, ServedModelFactory, ShardFactory

pytestmark = pytest.mark.django_db
NOW = timezone.now()
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


def worker(*queues: str, heartbeat: datetime | None = NOW, pid: int = 1) -> WorkerState:
    return WorkerState(f"w{pid}", "host", pid, queues, "idle", "", NOW, heartbeat)


WELL = Snapshot(True, [worker("control"), worker("lanes", pid=2)], {"control": 0, "lanes": 0})


def look(workers: Snapshot = WELL, *, money: bool = True) -> Review:
    return attention.review(health.of_models(NOW), workers, NOW, money=money)


def told(workers: Snapshot = WELL, *, money: bool = True) -> Sequence[Item]:
    return look(workers, money=money).items


def only(kind: Kind, workers: Snapshot = WELL) -> Item:
    (item,) = told(workers)
    assert item.kind is kind
    return item


@pytest.fixture(autouse=True)
def reconciled() -> ReconcileRun:
    return ReconcileRun.objects.create(started_at=NOW - timedelta(seconds=9))


def in_progress(**columns: Any) -> Batch:
    """Half done, and a lane works on it."""
    batch: Batch = BatchFactory(**({"total": 100, "completed": 50, "in_progress_at": NOW - HOUR} | columns))
    lane: Lane = LaneFactory(owner="x", limit=8, lease_expires_at=NOW + MINUTE)
    Batch.objects.filter(pk=batch.pk).update(model=lane.model)
    ShardFactory(batch=batch, model=lane.model, lane=lane, state=Shard.State.RUNNING)
    return batch


def test_nothing_is_told_when_all_is_well() -> None:
    in_progress()
    BatchFactory(status=Status.COMPLETED, completed=900, failed=9)
    assert told() == []


# Those who work


def test_redis_away_is_told_and_nothing_that_follows_from_it() -> None:
    only(Kind.REDIS_AWAY, Snapshot(reachable=False))


def test_a_queue_that_nobody_listens_to_is_told() -> None:
    item = only(Kind.NO_WORKERS, Snapshot(True, [worker("control")]))
    assert item.names == [("lanes", 0)]


def test_a_worker_without_heartbeat_is_told_and_does_not_count_as_listening() -> None:
    silent = worker("lanes", heartbeat=NOW - timedelta(seconds=80), pid=7)
    missing, stale = told(Snapshot(True, [worker("control"), silent]))
    assert (missing.kind, missing.names) == (Kind.NO_WORKERS, [("lanes", 0)])
    assert (stale.kind, stale.names, stale.since) == (Kind.STALE_WORKERS, [("host:7", 0)], silent.heartbeat)
    only(Kind.STALE_WORKERS, Snapshot(True, [*WELL.workers, silent]))


def test_a_reconciler_that_is_silent_for_a_minute_is_told(reconciled: ReconcileRun) -> None:
    ReconcileRun.objects.update(started_at=NOW - timedelta(seconds=61))
    only(Kind.RECONCILER_SILENT)
    reconciled.delete()
    only(Kind.RECONCILER_SILENT)


# Models


def test_models_that_are_down_throttled_or_paused_are_told_by_name() -> None:
    def held(name: str, **columns: Any) -> None:
        model = ServedModelFactory(name=name)
        LaneFactory(model=model, owner="x", lease_expires_at=NOW + MINUTE, **({"limit": 8} | columns))

    held("a", paused_since=NOW - HOUR, pause_reason="refused")
    held("b", paused_since=NOW - 2 * HOUR, pause_reason="no answer")
    held("c", limit=2)
    ServedModelFactory(name="d", paused_at=NOW - MINUTE)
    down, throttled, paused = told()
    assert (down.kind, down.names, down.since) == (Kind.MODELS_DOWN, [("a", 0), ("b", 0)], NOW - 2 * HOUR)
    assert (throttled.kind, throttled.names) == (Kind.MODELS_THROTTLED, [("c", 0)])
    assert (paused.kind, paused.names, paused.since) == (Kind.MODELS_PAUSED, [("d", 0)], NOW - MINUTE)


# Batches


def test_failed_batches_of_a_day_are_told_by_account() -> None:
    acme, globex = AccountFactory(name="acme"), AccountFactory(name="globex")
    for account, age in ((acme, 1), (globex, 2), (globex, 23), (acme, 25)):
        BatchFactory(account=account, status=Status.FAILED, failed_at=NOW - age * HOUR, total=0)
    item = only(Kind.FAILED)
    assert (item.count, item.names) == (3, [("globex", 2), ("acme", 1)])
    assert attention.LISTS[Kind.FAILED](NOW).count() == item.count


@pytest.mark.parametrize(
    ("columns", "is_told"),
    [
        ({"completed": 90, "failed": 10}, True),
        ({"completed": 91, "failed": 10, "total": 200}, False),  # less than a tenth
        ({"completed": 0, "failed": 9}, False),  # too few to be a pattern
        ({"completed": 90, "failed": 10, "status": Status.COMPLETED}, True),
        ({"completed": 90, "failed": 10, "status": Status.COMPLETED, "created_at": NOW - 25 * HOUR}, False),
        ({"completed": 90, "failed": 10, "created_at": NOW - 25 * HOUR}, True),
    ],
)
def test_batches_with_many_errors_are_told(columns: dict[str, Any], is_told: bool) -> None:
    batch = in_progress(**columns)
    assert [item.kind for item in told()] == [Kind.MANY_ERRORS] * is_told
    assert list(attention.LISTS[Kind.MANY_ERRORS](NOW)) == [batch] * is_told


@pytest.mark.parametrize(
    "columns",
    [
        {"status": Status.VALIDATING, "created_at": NOW - 3 * MINUTE, "total": 0},
        {"status": Status.FINALIZING, "finalizing_at": NOW - 3 * MINUTE},
        {"status": Status.CANCELLING, "cancelling_at": NOW - 3 * MINUTE},
        {"status": Status.CANCELLING, "cancelling_at": NOW - 3 * MINUTE, "stage_expires_at": NOW - MINUTE},
    ],
)
def test_batches_whose_next_step_nobody_takes_are_told(columns: dict[str, Any]) -> None:
    batch = BatchFactory(**columns)
    assert only(Kind.STUCK).names == [(batch.account.name, 1)]
    assert list(attention.LISTS[Kind.STUCK](NOW)) == [batch]


@pytest.mark.parametrize(
    "columns",
    [
        {"status": Status.VALIDATING, "created_at": NOW - MINUTE, "total": 0},
        {"status": Status.VALIDATING, "created_at": NOW - HOUR, "total": 0, "stage_expires_at": NOW + MINUTE},
        {"status": Status.FINALIZING, "finalizing_at": NOW - MINUTE},
        {"status": Status.COMPLETED, "finalizing_at": NOW - HOUR},
    ],
)
def test_a_step_that_somebody_takes_or_that_is_young_is_not_told(columns: dict[str, Any]) -> None:
    BatchFactory(**columns)
    assert told() == []


@pytest.fixture
def waiting() -> Shard:
    """Of a batch that has waited for ten minutes for a lane of its model."""
    batch = BatchFactory(in_progress_at=NOW - 10 * MINUTE, model=ServedModelFactory())
    return ShardFactory(batch=batch, model=batch.model)  # type: ignore[no-any-return]


def test_a_batch_that_no_lane_takes_up_is_told(waiting: Shard) -> None:
    only(Kind.STUCK)


def test_a_batch_in_the_queue_of_a_lane_is_not_told(waiting: Shard) -> None:
    """Its turn comes."""
    LaneFactory(model=waiting.model, owner="x", limit=8, lease_expires_at=NOW + MINUTE)
    assert told() == []


def test_a_lane_that_is_free_between_two_turns_alarms_nobody(waiting: Shard) -> None:
    lane = LaneFactory(model=waiting.model)
    LaneMinute.objects.create(model=waiting.model, lane=lane, lane_token=1, minute=NOW - MINUTE)
    assert told() == []


def test_a_batch_of_a_paused_model_is_not_stuck(waiting: Shard) -> None:
    ServedModel.objects.update(paused_at=NOW)
    only(Kind.MODELS_PAUSED)


def speeds(monkeypatch: pytest.MonkeyPatch, rates: dict[int, float]) -> None:
    monkeypatch.setattr(progress, "rates", lambda ids, now: rates)


def test_a_batch_that_is_too_slow_for_its_deadline_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = in_progress(total=7200, completed=0, expires_at=NOW + HOUR)
    fast = in_progress(total=7200, completed=0, expires_at=NOW + HOUR)
    speeds(monkeypatch, {slow.pk: 1.0, fast.pk: 4.0})
    item = only(Kind.LATE)
    assert (item.count, item.names) == (1, [(slow.account.name, 1)])
    assert list(attention.LISTS[Kind.LATE](NOW)) == [slow]


def test_a_batch_that_does_not_move_is_told_before_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    speeds(monkeypatch, {})
    in_progress(expires_at=NOW + 16 * MINUTE)
    assert told() == []
    in_progress(expires_at=NOW + 14 * MINUTE)
    only(Kind.LATE)


def test_of_more_late_batches_than_are_looked_at_the_number_is_the_least(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "NEAREST", 2)
    for _ in range(3):
        in_progress(expires_at=NOW + 14 * MINUTE)
    item = only(Kind.LATE)
    assert (item.count, item.is_least) == (2, True)
    assert concerns.of(item).sentence == "2+ batches will miss their deadline"
    Batch.objects.filter(pk__gt=Batch.objects.order_by("pk")[0].pk).update(expires_at=NOW + HOUR)
    assert not only(Kind.LATE).is_least


def test_only_the_batches_nearest_their_deadline_are_foretold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "NEAREST", 1)
    asked: list[int] = []

    def rates(ids: Collection[int], now: datetime) -> dict[int, float]:
        asked.extend(ids)
        return {}

    monkeypatch.setattr(progress, "rates", rates)
    in_progress(expires_at=NOW + 5 * HOUR)
    near = in_progress(expires_at=NOW + 4 * HOUR)
    told()
    assert asked == [near.pk]


# Money


def prepaid(account: Account, now: datetime = NOW) -> None:
    """With a credit of ten."""
    books.top_up(account, "10", now=now)
    Balance.objects.filter(account=account).update(is_prepaid=True)


def test_prepaid_accounts_in_use_that_have_nothing_left_are_told() -> None:
    broke, fine, at_rest = AccountFactory(), AccountFactory(), AccountFactory()
    prepaid(broke)
    books.hold(broke, "batch_1", "10", now=NOW)
    prepaid(fine)
    prepaid(at_rest, NOW - timedelta(days=8))
    books.hold(at_rest, "batch_2", "10", now=NOW - timedelta(days=8))
    assert only(Kind.OUT_OF_CREDIT).names == [(broke.name, 0)]
    assert told(money=False) == []


def test_a_disabled_account_needs_no_credit() -> None:
    broke = AccountFactory(is_enabled=False)
    prepaid(broke)
    books.hold(broke, "batch_1", "10", now=NOW)
    assert told() == []


def test_budgets_that_are_used_up_are_told_for_this_month_and_this_budget() -> None:
    month = months.containing(NOW)
    over, raised, half, before = (AccountFactory(monthly_budget=Decimal(20)) for _ in range(4))
    for account, at, percent, budget in (
        (over, month, 100, 20),
        (raised, month, 100, 10),
        (half, month, 50, 20),
        (before, months.before(month), 100, 20),
    ):
        BudgetAlert.objects.create(account=account, month=at, percent=percent, budget=Decimal(budget), spent=Decimal(9))
    assert only(Kind.BUDGET_USED_UP).names == [(over.name, 0)]
    assert told(money=False) == []


# All of it


def test_what_is_urgent_comes_first() -> None:
    BatchFactory(status=Status.FAILED, failed_at=NOW, total=0)
    BatchFactory(status=Status.FINALIZING, finalizing_at=NOW - HOUR)
    ServedModelFactory(paused_at=NOW)
    items = told(Snapshot(reachable=False))
    assert [item.kind for item in items] == [Kind.REDIS_AWAY, Kind.STUCK, Kind.FAILED, Kind.MODELS_PAUSED]
    assert [item.is_urgent for item in items] == [True, True, False, False]


def test_batches_under_way_run_wait_or_end() -> None:
    in_progress()
    BatchFactory(in_progress_at=NOW)
    BatchFactory(status=Status.VALIDATING)
    BatchFactory(status=Status.FINALIZING, finalizing_at=NOW)
    BatchFactory(status=Status.COMPLETED)
    found = look().under_way
    assert (found.running, found.waiting, found.ending, found.total) == (1, 2, 1, 4)


def test_it_takes_three_queries_whatever_there_is(django_assert_num_queries: Any) -> None:
    for _ in range(3):
        in_progress()
        BatchFactory(status=Status.FAILED, failed_at=NOW, total=0)
    models = health.of_models(NOW)
    with django_assert_num_queries(3):
        attention.review(models, WELL, NOW, money=True)
