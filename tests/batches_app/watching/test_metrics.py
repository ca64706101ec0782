"""What Prometheus reads, by its own parser, and who may read it."""

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any
from unittest.mock import patch

import pytest
from django.db import OperationalError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from batches_app import queue, traffic
from batches_app.models import LaneMinute, ReconcileRun
from batches_app.queue import Snapshot, WorkerState
from batches_app.states import Status
from batches_app.traffic import BOUNDS_MS
from batches_app.watching import metrics, readiness
from batches_app.watching.readiness import Wanting, Watch
from billing_app import daily, rate_limits, running_counts
from billing_app.models import Account
from billing_app.pricing import Tokens
from tests.factories import AccountFactory, BatchFactory, LaneFactory, PriceFactory, ServedModelFactory, ShardFactory

pytestmark = pytest.mark.django_db
QUERIES = 14  # of one scrape, at most; and once a day one more
PROXY, PROMETHEUS = "10.0.0.1", "10.0.7.7"


@pytest.fixture(autouse=True)
def _nothing_of_the_day_before() -> Iterator[None]:
    metrics._billed_before.cache_clear()
    yield
    metrics._billed_before.cache_clear()


Sample = tuple[str, frozenset[tuple[str, str]]]


def scraped() -> dict[Sample, float]:
    answer = Client().get("/metrics")
    assert answer.status_code == 200
    families = text_string_to_metric_families(answer.content.decode())
    return {(one.name, frozenset(one.labels.items())): one.value for family in families for one in family.samples}


def value(name: str, **labels: str) -> float | None:
    return scraped().get((f"batchdesk_{name}", frozenset(labels.items())))


def minute(lane: Any, *, minutes_ago: int = 0, **counts: Any) -> LaneMinute:
    at = timezone.now().replace(second=0, microsecond=0) - timedelta(minutes=minutes_ago)
    return LaneMinute.objects.create(model=lane.model, lane=lane, lane_token=1, minute=at, **counts)


# ---- what it says


def test_batches_that_run_or_wait() -> None:
    for status in (Status.IN_PROGRESS, Status.IN_PROGRESS, Status.VALIDATING, Status.COMPLETED):
        BatchFactory(status=status)
    assert value("batches", status="in_progress") == 2
    assert value("batches", status="validating") == 1
    assert value("batches", status="completed") is None  # a million of them: see how many ended


def test_batches_that_ended_are_counted_and_not_looked_for() -> None:
    running_counts.add("batches.failed", 3)
    assert (value("batches_ended_total", status="failed"), value("batches_ended_total", status="expired")) == (3, 0)


def test_how_long_the_oldest_has_waited() -> None:
    assert value("oldest_waiting_batch_age_seconds") == 0
    BatchFactory(status=Status.VALIDATING, created_at=timezone.now() - timedelta(minutes=5))
    assert value("oldest_waiting_batch_age_seconds") == pytest.approx(300, abs=30)


def test_lines_that_have_no_result_yet() -> None:
    model = ServedModelFactory(name="m")
    for completed in (10, 20):
        BatchFactory(model=model, total=100, completed=completed, failed=5)
    assert value("lines_left", model="m") == 160


def test_lanes_and_their_leases() -> None:
    model, now = ServedModelFactory(name="m", max_concurrency=24), timezone.now()
    LaneFactory(model=model)
    LaneFactory(model=model, lease_expires_at=now + timedelta(seconds=20), limit=5, in_flight=3)
    LaneFactory(model=model, lease_expires_at=now - timedelta(seconds=20), in_flight=8)
    LaneFactory(model=model, permits=0)
    found = scraped()
    names = ("lanes", "lanes_held", "permits", "permits_usable", "requests_in_flight", "lanes_waiting_for_upstream")
    of_m = frozenset({("model", "m")})
    assert [found[f"batchdesk_{name}", of_m] for name in names] == [3, 1, 24, 21, 3, 0]


def test_a_model_is_in_one_state() -> None:
    LaneFactory(
        model=ServedModelFactory(name="m"),
        lease_expires_at=timezone.now() + timedelta(seconds=20),
        paused_since=timezone.now(),
    )
    states = {
        dict(labels)["state"]: on
        for (name, labels), on in scraped().items()
        if name.endswith("model_state") and ("model", "m") in labels
    }
    assert [state for state, on in states.items() if on] == ["down"]
    assert value("attention", kind="models_down") == 1
    assert value("lanes_waiting_for_upstream", model="m") == 1


def test_what_upstreams_said_and_when() -> None:
    lane = LaneFactory(model=ServedModelFactory(name="m"))
    latency = [0] * (len(BOUNDS_MS) + 1)
    latency[0], latency[2], latency[-1] = 4, 3, 1
    minute(lane, answers=20, throttled=5, faults=2, latency=latency, waited_ms=1_500, completed=8, failed=5)
    kinds = {kind: value("upstream_answers_total", model="m", kind=kind) for kind in ("ok", "throttled", "fault")}
    assert kinds == {"ok": 8, "throttled": 5, "fault": 2}
    assert value("upstream_answers_total", model="m", kind="refused") == 5
    assert value("lines_total", model="m", result="failed") == 5
    bucket = {le: value("upstream_latency_seconds_bucket", model="m", le=le) for le in ("0.05", "0.113", "900.0")}
    assert bucket == {"0.05": 4, "0.113": 7, "900.0": 7}
    assert value("upstream_latency_seconds_bucket", model="m", le="+Inf") == 8
    assert (value("upstream_latency_seconds_count", model="m"), value("upstream_latency_seconds_sum", model="m")) == (
        8,
        1.5,
    )


def test_no_counter_shrinks_when_minutes_are_forgotten() -> None:
    lane = LaneFactory(model=ServedModelFactory(name="m"))
    minute(lane, minutes_ago=3 * 24 * 60, completed=7, checkpoints=2)
    minute(lane, completed=1, checkpoints=1)
    before = scraped()
    traffic.sum_up(timezone.now())
    traffic.prune(timezone.now())
    assert LaneMinute.objects.count() == 1
    after = scraped()
    assert {name: after[name] for name in before if name[0].endswith(("_total", "_bucket", "_sum"))} == {
        name: number for name, number in before.items() if name[0].endswith(("_total", "_bucket", "_sum"))
    }
    assert after["batchdesk_checkpoints_total", frozenset({("model", "m")})] == 3


def test_tokens_and_charges_are_those_of_the_bill() -> None:
    """Of all days: what was booked before yesterday is added up once a day."""
    price = PriceFactory(model_name="m", input_price=Decimal(2), output_price=Decimal(8), batch_discount=Decimal("0.5"))
    now = timezone.now()
    for days in (0, 1, 2, 400):
        tokens = Tokens(1_000_000, 250_000, 500_000, 0)
        daily.note(AccountFactory().pk, price, 1, tokens, now=now - timedelta(days=days))
    for _ in range(2):
        assert value("tokens_total", model="m", kind="input") == 4_000_000
        assert value("tokens_total", model="m", kind="cached") == 1_000_000
        assert value("charges_total", model="m", currency="USD") == 4 * (1 + 2)


def test_what_was_booked_before_midnight_and_committed_after_it_is_not_lost() -> None:
    """Days before are added up once, and this one came too late for that."""
    price, account, yesterday = PriceFactory(model_name="m"), AccountFactory(), timezone.now() - timedelta(days=1)
    for tokens in (20, 40):
        daily.note(account.pk, price, 1, Tokens(20), now=yesterday)
        assert value("tokens_total", model="m", kind="input") == tokens


def test_what_the_reconciler_did() -> None:
    assert value("reconciler_last_run_timestamp_seconds") is None
    started = timezone.now() - timedelta(seconds=30)
    ReconcileRun.objects.create(started_at=started, seconds=0.25)
    running_counts.add("healed.free_dead_lanes", 2)
    running_counts.add("step_failed.sweep_orphans", 1)
    assert value("reconciler_last_run_timestamp_seconds") == pytest.approx(started.timestamp())
    assert value("reconciler_last_run_duration_seconds") == 0.25
    assert value("reconciler_healed_total", step="free_dead_lanes") == 2
    assert value("reconciler_step_failures_total", step="sweep_orphans") == 1


def test_requests_that_were_limited_without_redis() -> None:
    assert value("rate_limit_fallbacks_total") == 0
    running_counts.add(rate_limits.FALLBACKS, 31)
    assert value("rate_limit_fallbacks_total") == 31


def test_queues_and_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    now = timezone.now()

    def worker(state: str, name: str = "lanes", seconds: int = 5) -> WorkerState:
        return WorkerState("w", "h", 1, [name], state, "", None, now - timedelta(seconds=seconds))

    workers = [worker("busy"), worker("idle"), worker("busy", seconds=300), worker("idle", "control")]
    monkeypatch.setattr(queue, "snapshot", lambda: Snapshot(True, workers, {"lanes": 4, "control": 0}))
    assert (value("redis_up"), value("queue_depth", queue="lanes"), value("queue_depth", queue="control")) == (1, 4, 0)
    of_lanes = {state: value("workers", queue="lanes", state=state) for state in ("busy", "idle", "stale")}
    assert of_lanes == {"busy": 1, "idle": 1, "stale": 1}
    assert value("workers", queue="control", state="busy") == 0


def test_a_redis_that_is_away_is_all_that_is_said_of_it() -> None:
    found = scraped()
    assert found["batchdesk_redis_up", frozenset()] == 0
    assert not any(name == "batchdesk_queue_depth" for name, _ in found)


def test_a_database_that_is_away_is_said_and_no_error() -> None:
    """A scrape that fails tells less than one that says what is wrong."""
    with patch("batches_app.watching.metrics.health.of_models", side_effect=OperationalError):
        found = scraped()
    assert found["batchdesk_database_up", frozenset()] == 0
    assert not any(name == "batchdesk_batches" for name, _ in found)


def test_a_database_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its pool would wait half a minute, and Prometheus gives up after ten seconds."""

    def away() -> None:
        raise Wanting("cannot be reached")

    monkeypatch.setattr(readiness, "watch", Watch({"database": away}, spare=frozenset()))
    with CaptureQueriesContext(connection) as queries:
        assert value("database_up") == 0
    assert not queries


def test_no_name_that_a_tenant_gave_is_in_it() -> None:
    batch = BatchFactory(name="xyzzy run", account=AccountFactory(name="xyzzy & sons"))
    ShardFactory(batch=batch)
    BatchFactory(status=Status.FAILED, failed_at=timezone.now(), account=batch.account)
    text = Client().get("/metrics").content.decode()
    assert not any(name in text for name in ("xyzzy", batch.public_id))
    assert Account.objects.filter(name="xyzzy & sons").exists()


def test_many_rows_take_no_more_queries() -> None:
    for _ in range(5):
        ShardFactory(batch=BatchFactory(status=Status.IN_PROGRESS), model=(lane := LaneFactory()).model)
        minute(lane, answers=1)
    Client().get("/metrics")
    with CaptureQueriesContext(connection) as queries:
        Client().get("/metrics")
    assert len(queries) <= QUERIES


def test_openmetrics_for_who_asks_for_it() -> None:
    answer = Client().get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert answer["Content-Type"].startswith("application/openmetrics-text")
    assert answer.content.endswith(b"# EOF\n")


# ---- who may read it


def status(address: str, **headers: str) -> int:
    return Client(REMOTE_ADDR=address).get("/metrics", headers=headers).status_code


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
def test_this_machine_may(address: str) -> None:
    assert status(address) == 200


@pytest.mark.parametrize("address", [PROMETHEUS, "203.0.113.9", "2001:db8::1", "", "unix:"])
def test_others_may_not(address: str) -> None:
    """The API's port is open to tenants, and what is billed to all of them is none of their business."""
    assert status(address) == 403


def test_those_that_are_named_may(settings: Any) -> None:
    settings.METRICS_ALLOW = ["10.0.7.0/24", "2001:db8::1"]
    assert {status(one) for one in (PROMETHEUS, f"::ffff:{PROMETHEUS}", "2001:db8::1")} == {200}
    assert status("10.0.8.1") == 403


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP", "Via"])
def test_nobody_is_taken_for_this_machine_who_came_through_a_proxy_on_it(header: str) -> None:
    """Which TRUSTED_PROXIES does not name: everybody would be."""
    assert status("127.0.0.1", **{header: "127.0.0.1"}) == 403


def test_behind_trusted_proxies_it_is_the_client_that_counts(settings: Any) -> None:
    settings.TRUSTED_PROXIES, settings.METRICS_ALLOW = 1, [PROMETHEUS]
    assert status(PROXY, **{"X-Forwarded-For": PROMETHEUS}) == 200
    assert status(PROXY, **{"X-Forwarded-For": f"127.0.0.1, {PROMETHEUS}"}) == 200
    assert status(PROXY, **{"X-Forwarded-For": f"{PROMETHEUS}, 203.0.113.9"}) == 403
    assert status("127.0.0.1", **{"X-Forwarded-For": "203.0.113.9"}) == 403


def test_nothing_can_be_done_to_it() -> None:
    assert Client().post("/metrics").status_code in (403, 405)
    assert Client().post("/readyz").status_code in (403, 405)
