"""What the reconciler heals, and what it tells of it."""

from datetime import UTC, datetime, timedelta

import pytest
from django.conf import settings

from batches_app import lanes, queue, reconciliation, routing, traffic
from batches_app.models import Batch, LaneMinute, ReconcileRun, Shard
from batches_app.states import Status
from billing_app import running_counts
from tests.factories import BatchFactory, LaneFactory, ServedModelFactory, ShardFactory

pytestmark = pytest.mark.django_db
# On the hour, when also that is done which is enough once an hour; and a minute later, when it is not.
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
LATER = NOW + timedelta(minutes=1)


@pytest.fixture(autouse=True)
def rung(monkeypatch: pytest.MonkeyPatch) -> list[tuple[queue.Job, dict[str, object]]]:
    """Bells that rang; the second of a kind finds the first one waiting."""
    bells: list[tuple[queue.Job, dict[str, object]]] = []

    def ring(job: queue.Job, **facts: object) -> queue.Bell:
        bell = queue.Bell(rang=(job, facts) not in bells)
        bells.append((job, facts))
        return bell

    monkeypatch.setattr(queue, "ring", ring)
    return bells


def _healed(now: datetime = LATER) -> dict[str, int]:
    reconciliation.reconcile(now=now)
    healed: dict[str, int] = ReconcileRun.objects.latest("pk").healed
    return healed


def test_a_run_in_which_all_was_well_is_noted_too() -> None:
    """Who sees no run for a minute knows that nobody reconciles."""
    assert _healed() == {}
    run = ReconcileRun.objects.get()
    assert run.started_at == LATER
    assert run.seconds > 0


def test_it_tells_what_it_healed_and_how_often() -> None:
    for _ in range(2):
        BatchFactory(status=Status.IN_PROGRESS, expires_at=NOW)
    lane = LaneFactory()
    shard = ShardFactory(model=lane.model, batch__expires_at=LATER + timedelta(hours=1))
    held = lanes.acquire(lane.pk, now=LATER - timedelta(seconds=settings.LANE_LEASE + 1))
    assert held is not None
    assert lanes.claim(held) == shard
    assert _healed() == {"expire_due": 2, "free_dead_lanes": 1, "ring_unheard_lanes": 1}


def test_a_bell_that_waits_is_not_one_that_nobody_heard(rung: list[object]) -> None:
    BatchFactory(status=Status.VALIDATING)
    assert _healed() == {"ring_unheard_stages": 1}
    assert _healed() == {}
    assert len(rung) == 2


def test_a_batch_whose_every_line_is_done_goes_on() -> None:
    ShardFactory(state=Shard.State.DONE, batch__expires_at=LATER + timedelta(hours=1))
    assert _healed() == {"complete_done": 1}
    assert Batch.objects.get().status == Status.FINALIZING


def test_a_paused_models_lanes_are_not_woken() -> None:
    lane = LaneFactory()
    ShardFactory(model=lane.model, batch__expires_at=LATER + timedelta(hours=1))
    routing.pause(lane.model, by="olga", reason="upgrade", now=NOW)
    assert _healed() == {}


def test_a_paused_models_batches_expire_and_end_all_the_same() -> None:
    lane = LaneFactory()
    shard = ShardFactory(model=lane.model, batch__expires_at=NOW)
    routing.pause(lane.model, by="olga", reason="upgrade", now=NOW)
    assert _healed()["expire_due"] == 1
    shard.refresh_from_db()
    assert shard.state == Shard.State.CLOSED
    assert Batch.objects.get().status == Status.FINALIZING


def test_a_probe_that_nobody_heard_of_is_rung_for_again(rung: list[object]) -> None:
    """But not for ever: who asked an hour ago does not wait for it any more."""
    model = ServedModelFactory()
    routing.ask_probe(model, now=NOW)
    rung.clear()
    assert _healed() == {"ring_unheard_probes": 1}
    rung.clear()
    assert _healed(LATER + timedelta(hours=1)) == {}


def test_one_step_that_fails_does_not_keep_the_others_from_their_work(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def breaks(now: datetime) -> int:
        raise RuntimeError

    monkeypatch.setattr(reconciliation, "STEPS", (breaks, *reconciliation.STEPS))
    BatchFactory(status=Status.VALIDATING)
    assert _healed() == {"ring_unheard_stages": 1}
    assert "breaks failed" in caplog.text
    assert running_counts.all_named() == {"healed.ring_unheard_stages": 1, "step_failed.breaks": 1}


def test_what_was_healed_is_counted_for_ever(rung: list[object]) -> None:
    """Also when the run that did it is forgotten."""
    for _ in range(2):
        routing.ask_probe(ServedModelFactory(), now=NOW)
        rung.clear()
        _healed()
    ReconcileRun.objects.all().delete()
    assert running_counts.all_named()["healed.ring_unheard_probes"] == 3


def test_runs_are_kept_for_a_month_and_quiet_ones_for_two_days() -> None:
    def run(days: int, healed: dict[str, int]) -> ReconcileRun:
        return ReconcileRun.objects.create(started_at=NOW - timedelta(days=days, seconds=1), healed=healed)

    kept = [run(1, {}), run(2 - 1, {"x": 1}), run(29, {"x": 1})]
    for days, healed in ((2, {}), (30, {"x": 1})):
        run(days, healed)
    reconciliation.reconcile(now=LATER)
    assert ReconcileRun.objects.filter(started_at__lt=NOW).count() == 5  # once an hour is enough
    reconciliation.reconcile(now=NOW)
    assert list(ReconcileRun.objects.filter(started_at__lt=NOW).order_by("pk")) == kept


def test_old_minutes_are_forgotten_which_heals_nothing() -> None:
    lane = LaneFactory()
    LaneMinute.objects.create(model=lane.model, lane=lane, lane_token=1, minute=NOW - timedelta(hours=49), answers=2)
    assert _healed() == {}
    assert not LaneMinute.objects.exists()
    assert traffic.of_all_time(NOW)[lane.model_id].answers == 2
