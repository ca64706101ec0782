"""What wakes workers, seen from the worker."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import rq
from django.db import transaction
from redis import Redis, RedisError

from batches_app import queue
from config.redis_server import private_server
from tests.log_lines import written


def test_a_worker_tells_of_a_dead_work_horse_without_a_database_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next work-horses would share it: one killed in a transaction would leave its locks behind for ever.

    Without the mark, pytest-django refuses each use of the database.
    """
    told: list[Any] = []
    monkeypatch.setattr(rq.Worker, "handle_work_horse_killed", lambda *_: None)
    monkeypatch.setattr(queue, "_enqueue", lambda *call: told.append(call))
    worker = queue.Worker.__new__(queue.Worker)
    worker.handle_work_horse_killed(None, 4711, 9, None)
    assert told == [(queue.Job.BURY, "bury-4711", None, {"owner": queue.owner_name(4711)})]


WORKER = """
import gc, sys
import django; django.setup()
import rq
from batches_app import queue
rq.Worker.work = lambda *_: print(gc.get_freeze_count(), "batches_app.execution" in sys.modules)
queue.Worker.__new__(queue.Worker).work()
"""


def test_a_worker_loads_what_its_work_horses_need_before_it_forks() -> None:
    """And their collectors go through nothing of it."""
    said = subprocess.run([sys.executable, "-c", WORKER], capture_output=True, text=True, check=True).stdout.split()
    assert int(said[0]) > 50_000
    assert said[1] == "True"


def test_a_worker_survives_that_nobody_can_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rq.Worker, "handle_work_horse_killed", lambda *_: None)
    worker = queue.Worker.__new__(queue.Worker)
    worker.handle_work_horse_killed(None, 4711, 9, None)  # nobody answers at the tests' REDIS_URL


# ---- what operators see of it


@pytest.fixture
def redis(tmp_path: Path, settings: Any) -> Iterator["Redis"]:
    """A Redis of its own, which the queue uses."""
    server = private_server(tmp_path)
    process = subprocess.Popen(server.command)
    settings.REDIS_URL = server.url
    queue._connection.cache_clear()
    with Redis.from_url(server.url) as client:
        deadline = time.monotonic() + 10
        while True:
            try:
                client.ping()
                break
            except RedisError:
                assert time.monotonic() < deadline
                time.sleep(0.02)
        yield client
    queue._connection(queue.LOOK_TIMEOUT).close()
    queue._connection().close()
    queue._connection.cache_clear()
    process.terminate()
    process.wait(10)


class Trap:
    """What a job holds that somebody with access to Redis has put there: to unpickle it is to run it."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return (Path.touch, (self.file,))


def _worker(client: "Redis", name: str, *queues: str) -> queue.Worker:
    worker = queue.Worker(list(queues), name=name, connection=client)
    worker.register_birth()  # type: ignore[no-untyped-call]  # of rq
    return worker


def _takes_its_next_job(worker: queue.Worker) -> None:
    found = worker.dequeue_job_and_maintain_ttl(1)
    assert found is not None
    worker.prepare_execution(found[0])
    worker.set_state("busy")


def test_workers_and_what_they_do_are_seen(redis: "Redis") -> None:
    busy, _idle = _worker(redis, "a", "lanes"), _worker(redis, "b", "control", "lanes")
    assert queue._enqueue(queue.Job.RUN_LANE, "run_lane-3-1", None, {"lane_id": 3})
    _takes_its_next_job(busy)
    assert queue._enqueue(queue.Job.RUN_LANE, "run_lane-4-1", None, {"lane_id": 4})
    seen = queue.snapshot()
    assert seen.reachable
    assert seen.depths == {"control": 0, "lanes": 1}
    states = {worker.name: worker for worker in seen.workers}
    assert (states["a"].job, states["a"].state, states["a"].queues) == ("run_lane lane 3", "busy", ["lanes"])
    assert (states["b"].job, states["b"].queues) == ("", ["control", "lanes"])
    assert (states["a"].host, states["a"].pid) == (socket.gethostname(), os.getpid())
    assert all(worker.heartbeat and worker.since for worker in seen.workers)


def test_a_job_that_somebody_pickled_is_not_run_by_being_shown(redis: "Redis", tmp_path: Path) -> None:
    trap = tmp_path / "sprung"
    worker = _worker(redis, "a", "lanes")
    job = rq.Queue("lanes", connection=redis).enqueue("os.getpid", Trap(trap), job_id="odd", meta={"x": Trap(trap)})
    worker.prepare_execution(job)
    assert [worker.job for worker in queue.snapshot().workers] == ["odd"]
    assert not trap.exists()


def test_a_redis_that_is_away_is_said_to_be() -> None:
    assert queue.snapshot() == queue.Snapshot(reachable=False)  # nobody answers at the tests' REDIS_URL


@pytest.mark.django_db(transaction=True)
def test_a_bell_says_whether_it_rang(redis: "Redis") -> None:
    """The second finds the first one waiting; the reconciler counts only those that were not heard."""
    bells = [queue.ring(queue.Job.FINALIZE, once_per="1-1", batch_id=1) for _ in range(2)]
    assert [bell.rang for bell in bells] == [True, False]
    with transaction.atomic():
        bell = queue.ring(queue.Job.FINALIZE, once_per="2-1", batch_id=2)
        assert not bell.rang
    assert bell.rang


def test_a_job_that_fails_is_told_of_without_what_its_exception_quotes(redis: "Redis") -> None:
    """RQ would write the traceback into the line's text."""
    sent, worker = "what a tenant sent", _worker(redis, "a", "control")
    job = rq.Queue("control", connection=redis).enqueue("batches_app.jobs.validate", batch_id=1, job_id="validate-1-0")
    with written() as log:
        try:
            int(sent)
        except ValueError:
            worker.handle_exception(job, *sys.exc_info())
    (line,) = log.named("batches_app.queue")
    assert line["event"] == "Job validate-1-0 failed."
    assert line["exception"].endswith("ValueError")
    assert sent not in log.text


def test_a_redis_that_takes_jobs_wants_nothing(redis: "Redis") -> None:
    assert queue.wanting() == ""


def test_a_redis_that_is_full_takes_none(redis: "Redis") -> None:
    redis.config_set("maxmemory", 1)
    try:
        assert queue.wanting() == "writes nothing: full, or a replica"
    finally:
        redis.config_set("maxmemory", 0)


def test_a_redis_that_is_away_takes_none() -> None:
    assert queue.wanting() == "away"
