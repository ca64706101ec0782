"""The doorbell: RQ wakes workers, the database says what there is to do. A bell that nobody hears is rung again
by the reconciler, so ringing never fails the caller."""

import logging
import os
import signal
import socket
from enum import StrEnum
from functools import cache
from typing import Any

import django_rq
import rq
from django.conf import settings
from django.db import transaction
from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry
from rq.serializers import JSONSerializer

log = logging.getLogger(__name__)


class Job(StrEnum):
    """By dotted name: what rings a bell need not import what answers it."""

    VALIDATE = "batches_app.jobs.validate"
    RUN_LANE = "batches_app.jobs.run_lane"
    FINALIZE = "batches_app.jobs.finalize"
    RECONCILE = "batches_app.jobs.reconcile"
    BURY = "batches_app.jobs.bury"

    @property
    def queue_name(self) -> str:
        return "lanes" if self is Job.RUN_LANE else "control"


def ring(job: Job, *, once_per: str, ttl: int | None = None, **kwargs: int | str) -> None:
    """Enqueues the job once the transaction commits, unless a bell of the same `once_per` is waiting already.

    `ttl`: seconds after which a bell that nobody answered is void.
    """
    job_id = f"{job.name.lower()}-{once_per}"

    def enqueue() -> None:  # not a partial: where one fails, Django looks for its name in vain
        _enqueue(job, job_id, ttl, kwargs)

    transaction.on_commit(enqueue, robust=True)


def _enqueue(job: Job, job_id: str, ttl: int | None, kwargs: dict[str, int | str]) -> None:
    # "auto": the commit was waited for above; django-rq would wait for its own idea of it.
    queue = django_rq.get_queue(job.queue_name, connection=_connection(), commit_mode="auto")
    if queue.get_job_position(job_id) is None:
        # Not `unique`: that also refuses while a job of this id is marked as running by a worker that died.
        queue.enqueue_call(job.value, kwargs=kwargs, job_id=job_id, ttl=ttl, timeout=-1, result_ttl=0, failure_ttl=3600)


@cache
def _connection() -> "Redis":
    # Not the workers' connection, which waits for jobs: a request must not hang because Redis does.
    return Redis.from_url(settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=2, retry=Retry(NoBackoff(), 0))


def owner_name(pid: int) -> str:
    """How a work-horse signs what it holds."""
    return f"{socket.gethostname()}:{pid}"


class Worker(rq.Worker):
    """With these intervals a dead worker's job is taken up again in about a minute; RQ's defaults take thirteen."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        fixed = {"serializer": JSONSerializer, "maintenance_interval": 10, "job_monitoring_interval": 5}
        super().__init__(*args, **(kwargs | fixed))

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

    def setup_work_horse_signals(self) -> None:
        super().setup_work_horse_signals()
        # A short job is let finish; a lane has its own handler and drains.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
