"""Workers and queues: who runs what, what waits, what was healed; with Redis and without."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from batches_app import queue
from batches_app.console import conditions
from batches_app.models import Lane, Operation, ReconcileRun, Shard
from batches_app.queue import Snapshot, WorkerState
from batches_app.reconciliation import STEPS
from batches_app.states import Status
from tests.factories import BatchFactory, LaneFactory, ServedModelFactory, ShardFactory
from tests.operators import signed_in

pytestmark = pytest.mark.django_db
PAGE = "/console/workers"


def shown(client: Client | None = None) -> str:
    answer = (client or signed_in("viewer")).get(PAGE)
    assert answer.status_code == 200
    return answer.content.decode()


def knows(monkeypatch: pytest.MonkeyPatch, *workers: WorkerState, **depths: int) -> None:
    monkeypatch.setattr(queue, "snapshot", lambda: Snapshot(True, workers, {"control": 0, "lanes": 0} | depths))


def worker(*queues: str, job: str = "", age: int = 1, pid: int = 4711) -> WorkerState:
    now = timezone.now()
    heartbeat = now - timedelta(seconds=age)
    return WorkerState("w", "desk-1", pid, queues, "busy", job, now - timedelta(minutes=7), heartbeat)


@pytest.fixture
def lane() -> Lane:
    lease = timezone.now() + timedelta(minutes=1)
    model = ServedModelFactory(name="qwen")
    return LaneFactory(  # type: ignore[no-any-return]
        model=model, number=3, owner="desk-1:99", lease_expires_at=lease, limit=8, in_flight=5
    )


def test_the_page_works_without_redis_and_says_what_that_means(lane: Lane) -> None:
    page = shown()
    assert "Redis does not answer" in page
    assert "Nothing is lost" in page
    assert "desk-1:99" in page  # of the database


def test_workers_are_shown_with_what_they_do(monkeypatch: pytest.MonkeyPatch, lane: Lane) -> None:
    knows(monkeypatch, worker("lanes", job=f"run_lane lane {lane.pk}"), worker("control", age=100, pid=12), lanes=17)
    page = shown()
    assert 'lane 3 of <bdi class="shown">qwen</bdi>' in page
    assert ">17</span>" in page
    assert page.count("busy</span>") == 1
    assert page.count("no heartbeat</span>") == 1
    assert "No worker listens to this queue: control." in page
    assert len(re.findall(r">7 min \d s ago<", page)) == 3  # both workers, and the lane that one of them runs


def test_lanes_are_shown_with_their_holder_and_what_keeps_them(lane: Lane) -> None:
    assert "5 of 8 in flight" in shown()
    assert "at work</span>" in shown()
    Lane.objects.update(limit=2, pause_reason="429 slow down")
    assert "throttled</span>" in shown()
    assert "429 slow down" in shown()
    Lane.objects.update(paused_since=timezone.now() - timedelta(minutes=3))
    assert "waits for its upstream</span>" in shown()
    Lane.objects.update(lease_expires_at=None)
    page = shown()
    assert "free</span>" in page
    assert "429 slow down" not in page


def test_a_lane_without_permits_is_shown_only_while_it_drains(lane: Lane) -> None:
    Lane.objects.update(permits=0)
    assert "qwen" in shown()
    Lane.objects.update(lease_expires_at=None)
    assert "qwen" not in shown()


def test_the_batch_that_waits_longest_is_a_link() -> None:
    running = BatchFactory(name="running")
    ShardFactory(batch=running, state=Shard.State.RUNNING)
    BatchFactory(name="done", status=Status.COMPLETED)
    assert "none waits" in shown()
    oldest = BatchFactory(name="waiting")
    BatchFactory(name="newer", status=Status.VALIDATING)
    page = shown()
    assert f"/console/batches/{oldest.public_id}" in page
    assert "newer" not in page


def test_what_the_reconciler_healed_is_shown_and_what_it_found_in_order_is_not() -> None:
    now = timezone.now()
    ReconcileRun.objects.create(started_at=now - timedelta(hours=5), healed={"free_dead_lanes": 2, "expire_due": 1})
    for age in (30, 20, 10):
        ReconcileRun.objects.create(started_at=now - timedelta(seconds=age), seconds=0.04)
    page = shown()
    assert 'Lanes whose worker had died: <span class="strong">2</span>' in page
    assert ">5 h 0 min ago<" in page
    assert "took 40 ms" in page
    assert page.count("<li>") - page.count("<li><a") == 2
    assert "last ran at" not in page


def test_a_reconciler_that_is_silent_is_told() -> None:
    assert "has never run" in shown()
    ReconcileRun.objects.create(started_at=timezone.now() - timedelta(seconds=90))
    assert "last ran at" in shown()


def test_every_step_of_the_reconciler_has_its_words() -> None:
    assert {step.__name__ for step in STEPS} - {"prune_records"} == set(conditions.HEALED)


def test_running_operations_are_shown() -> None:
    assert "Operations under way" not in shown()
    running = Operation.objects.create(kind="cancel", state="running", created_by="olga", total=10, position=4)
    Operation.objects.create(kind="cancel", state="done", created_by="bo")
    page = shown()
    assert f"/console/operations/{running.pk}" in page
    assert "bo" not in page.split("Operations under way")[1].split("</section>")[0].split()


def test_a_live_part_is_asked_for_alone() -> None:
    answer = signed_in("viewer").get(PAGE, headers={"HX-Request": "true"}).content.decode()
    assert answer.startswith('<div id="workers" class="stack-wide" data-live="/console/workers">')
    assert "<html" not in answer


def test_it_takes_few_queries(django_assert_max_num_queries: Any, lane: Lane) -> None:
    for number in range(6):
        LaneFactory(model=lane.model, number=10 + number)
        BatchFactory()
        ReconcileRun.objects.create(healed={"expire_due": 1})
        Operation.objects.create(kind="cancel", state="running", created_by="olga")
    client = signed_in("viewer")
    with django_assert_max_num_queries(12):
        shown(client)


def test_the_way_to_rqs_dashboard_is_for_those_who_may_use_it() -> None:
    link = f'href="{reverse("django_rq:home")}"'
    assert link in shown(signed_in("administrator", name="ada"))
    assert link not in shown(signed_in("operator"))


def test_it_is_for_operators_alone() -> None:
    assert Client().get(PAGE).status_code == 302
