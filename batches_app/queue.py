"""The doorbell: RQ wakes workers, the database says what there is to do. A bell that nobody hears is rung again
by the reconciler, so ringing never fails the caller."""

import gc
import logging
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import cache
from importlib import import_module
from typing import Any

import django_rq
import rq
from django.conf import settings
from django.db import transaction
from redis import Redis, RedisError, ResponseError
from redis.backoff import NoBackoff
from redis.retry import Retry
from rq.exceptions import DeserializationError, NoSuchJobError
from rq.serializers import JSONSerializer

log = logging.getLogger(__name__)

LOOK_TIMEOUT = 0.5  # seconds: a page that shows workers does not wait long for a Redis that hangs


class Job(StrEnum):
    """By dotted name: what rings a bell need not import what answers it."""

    VALIDATE = "batches_app.jobs.validate"
    RUN_LANE = "batches_app.jobs.run_lane"
    FINALIZE = "batches_app.jobs.finalize"
    RECONCILE = "batches_app.jobs.reconcile"
    BURY = "batches_app.jobs.bury"
    PROBE = "batches_app.jobs.probe"
    OPERATE = "batches_app.jobs.operate"

    @property
    def queue_name(self) -> str:
        return "lanes" if self is Job.RUN_LANE else "control"


@dataclass(slots=True)
class Bell:
    """`rang`: True once it is enqueued, which is when the transaction commits. It stays False where such a bell was
    waiting already, or Redis is away."""

    rang: bool = False


def ring(job: Job, *, once_per: str, ttl: int | None = None, **kwargs: int | str) -> Bell:
    """Enqueues the job once the transaction commits, unless a bell of the same `once_per` is waiting already.

    `ttl`: seconds after which a bell that nobody answered is void.
    """
    job_id = f"{job.name.lower()}-{once_per}"
    bell = Bell()

    def enqueue() -> None:  # not a partial: where one fails, Django looks for its name in vain
        bell.rang = _enqueue(job, job_id, ttl, kwargs)

    transaction.on_commit(enqueue, robust=True)
    return bell


def _enqueue(job: Job, job_id: str, ttl: int | None, kwargs: dict[str, int | str]) -> bool:
    # "auto": the commit was waited for above; django-rq would wait for its own idea of it.
    queue = django_rq.get_queue(job.queue_name, connection=_connection(), commit_mode="auto")
    if queue.get_job_position(job_id) is not None:
        return False
    # Not `unique`: that also refuses while a job of this id is marked as running by a worker that died.
    queue.enqueue_call(job.value, kwargs=kwargs, job_id=job_id, ttl=ttl, timeout=-1, result_ttl=0, failure_ttl=3600)
    return True


@cache
def _connection(timeout: float = 2.0) -> "Redis":
    # Not the workers' connection, which waits for jobs: a request must not hang because Redis does.
    limits = {"socket_timeout": timeout, "socket_connect_timeout": timeout}
    return Redis.from_url(settings.REDIS_URL, retry=Retry(NoBackoff(), 0), **limits)


def owner_name(pid: int) -> str:
    """How a work-horse signs what it holds."""
    return f"{socket.gethostname()}:{pid}"


class Worker(rq.Worker):
    """With these intervals a dead worker's job is taken up again in about a minute; RQ's defaults take thirteen."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        fixed = {"serializer": JSONSerializer, "maintenance_interval": 10, "job_monitoring_interval": 5}
        super().__init__(*args, **(kwargs | fixed))

    def work(self, *args: Any, **kwargs: Any) -> bool:
        # Before it forks: a work-horse would else load for its one job what all of them do, and the collector go
        # through it, by which memory that they share becomes each one's own.
        import_module(Job.RUN_LANE.rpartition(".")[0])
        gc.collect()
        gc.freeze()
        return super().work(*args, **kwargs)

    def handle_warm_shutdown_request(self) -> None:
        super().handle_warm_shutdown_request()
        if self.horse_pid:
            os.kill(self.horse_pid, signal.SIGTERM)

    def handle_work_horse_killed(self, *args: Any) -> None:
        """Its parent knows first that a work-horse died: nobody need wait for its lease to run out."""
        super().handle_work_horse_killed(*args)
        _job, pid, *_ = args
        # Not by `ring`: to ask whether there is a transaction opens a database connection, which the work-horses forked
        # from here on would share. One that is killed would then leave its transaction, and its locks, open for ever.
        try:
            _enqueue(Job.BURY, f"bury-{pid}", None, {"owner": owner_name(pid)})
        except RedisError:
            log.warning("Nobody could be told that work-horse %d died; its lease will run out.", pid)

    def handle_exception(self, job: Any, *exc_info: Any) -> None:
        # RQ's own line has the traceback as part of its text, where nobody could tell any more what quotes a tenant.
        log.error("Job %s failed.", job.id, exc_info=exc_info)

    def setup_work_horse_signals(self) -> None:
        super().setup_work_horse_signals()
        # A short job is let finish; a lane has its own handler and drains.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


@dataclass(frozen=True, slots=True)
class WorkerState:
    """`job`: what it does, such as "run_lane lane 3"; empty when idle. `since`: the start of the job, or of the
    worker."""

    name: str
    host: str
    pid: int
    queues: Sequence[str]
    state: str
    job: str
    since: datetime | None
    heartbeat: datetime | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Workers as Redis knows them, and how many jobs wait, by queue."""

    reachable: bool = True
    workers: Sequence[WorkerState] = ()
    depths: Mapping[str, int] = field(default_factory=dict)


def wanting() -> str:
    """Why Redis takes no jobs; empty where it does."""
    try:
        _connection(LOOK_TIMEOUT).set("batchdesk:ready", 1, ex=60)
    except ResponseError:
        return "writes nothing: full, or a replica"
    except RedisError:
        return "away"
    return ""


def snapshot() -> Snapshot:
    connection = _connection(LOOK_TIMEOUT)
    try:
        workers = [_state_of(worker) for worker in rq.Worker.all(connection=connection, serializer=JSONSerializer)]
        depths = {name: len(rq.Queue(name, connection=connection)) for name in settings.RQ_QUEUES}
    except RedisError:
        return Snapshot(reachable=False)
    return Snapshot(True, sorted(workers, key=lambda worker: (worker.host, worker.pid)), depths)


def _state_of(worker: Any) -> WorkerState:
    execution = worker.execution
    return WorkerState(
        name=worker.name,
        host=worker.hostname or "",
        pid=worker.pid or 0,
        queues=worker.queue_names(),
        state=worker.get_state(),
        job=_described(execution.job_id, worker.connection) if execution else "",
        since=execution.created_at if execution else worker.birth_date,
        heartbeat=worker.last_heartbeat,
    )


def _described(job_id: str, connection: "Redis") -> str:
    """Its name and arguments, read as JSON: to unpickle what somebody put there would run it."""
    try:
        job = rq.job.Job.fetch(job_id, connection=connection, serializer=JSONSerializer)
        arguments = [f"{name.removesuffix('_id')} {value}" for name, value in job.kwargs.items()]
        return " ".join([str(job.func_name).rpartition(".")[2], *arguments])
    except (NoSuchJobError, DeserializationError, ValueError):
        return job_id
