"""The faults, by kind. Each is a generator: it strikes, is left alone for its seconds at `yield`, and puts things
right. One that strikes once and for all yields at once.
"""

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import psycopg
import redis

from tests.chaos.ground import Ground
from tests.chaos.late import late
from tests.stack import ROOT, children, send

LEASE = 20.0  # of a lane
HUGE, BOMB = 2 * 1024**3, 256 * 1024**2
FAKETIME = "*-linux-gnu/faketime/libfaketime.so.1"

Strike = Callable[[Ground], Iterator[None]]


@dataclass(frozen=True, slots=True)
class Fault:
    """`kills`: it may end a lane's holder, whose last window of results is sent again then."""

    name: str
    strike: Strike
    seconds: tuple[float, float]
    kills: bool
    is_possible: Callable[[], bool]


FAULTS: list[Fault] = []


def fault(
    name: str,
    lasts: tuple[float, float] = (0.0, 0.0),
    *,
    kills: bool = False,
    is_possible: Callable[[], bool] = lambda: True,
) -> Callable[[Strike], Strike]:
    def register(strike: Strike) -> Strike:
        FAULTS.append(Fault(name, strike, lasts, kills, is_possible))
        return strike

    return register


@contextmanager
def struck(fault: Fault, ground: Ground) -> Iterator[None]:
    yield from fault.strike(ground)


def signal_all(number: int, *processes: psutil.Process) -> None:
    for process in processes:
        send(process, number)


def kill(*processes: psutil.Process) -> None:
    signal_all(signal.SIGKILL, *processes)


def one_of(ground: Ground, processes: list[psutil.Process]) -> list[psutil.Process]:
    return [ground.chance.choice(processes)] if processes else []


def busy(ground: Ground) -> list[psutil.Process]:
    """Lane workers that hold a lane; where none does, any."""
    workers = ground.stack.lane_workers()
    return [worker for worker in workers if children(worker)] or workers


# Processes


@fault("kill -9 of a lane's work-horse", kills=True)
def lane_horse(ground: Ground) -> Iterator[None]:
    with ground.processes:
        kill(*one_of(ground, ground.stack.lane_horses()))
    yield


@fault("kill -9 of a lane worker without its work-horse", kills=True)
def lane_parent(ground: Ground) -> Iterator[None]:
    with ground.processes:
        kill(*one_of(ground, busy(ground)))
    yield


@fault("kill -9 of a lane worker with its work-horse", kills=True)
def lane_worker(ground: Ground) -> Iterator[None]:
    with ground.processes:
        for worker in one_of(ground, busy(ground)):
            kill(worker, *worker.children())
    yield


@fault("kill -9 of the control worker and what it does")
def control_worker(ground: Ground) -> Iterator[None]:
    with ground.processes:
        kill(*ground.stack.workers_of("control"))
    yield


@fault("kill -9 of what the control worker does")
def control_horse(ground: Ground) -> Iterator[None]:
    with ground.processes:
        for _ in range(40):
            if doing := [horse for worker in ground.stack.workers_of("control") for horse in children(worker)]:
                kill(*doing)
                break
            time.sleep(0.05)
    yield


@fault("kill -9 of every worker", kills=True)
def every_worker(ground: Ground) -> Iterator[None]:
    with ground.processes:
        kill(*ground.programs("rqworker"))
    yield


@fault("kill -9 of the web in mid-upload")
def web_in_mid_upload(ground: Ground) -> Iterator[None]:
    with ground.processes:
        for _ in range(100):
            if any((ground.folder / "incoming").iterdir()):
                break
            time.sleep(0.02)
        kill(*ground.web_workers())
    yield


@fault("kill -9 of the web's master")
def web_master(ground: Ground) -> Iterator[None]:
    with ground.processes:
        kill(*ground.web_masters())
    yield


@fault("the web stopped", (1.0, 4.0))
def web_stopped(ground: Ground) -> Iterator[None]:
    with ground.processes:
        stopped = ground.web_workers()
        signal_all(signal.SIGSTOP, *stopped)
    yield
    signal_all(signal.SIGCONT, *stopped)


@fault("kill -9 of the clock")
def cron(ground: Ground) -> Iterator[None]:
    with ground.processes:
        kill(*ground.programs("cron"))
    yield


@fault("kill -9 of everything at once", kills=True)
def everything(ground: Ground) -> Iterator[None]:
    with ground.processes:
        ground.stack.kill_everything()
        try:
            ground.stack.start()
        except AssertionError:  # what else goes on may keep it from that for a minute
            ground.stack.start()
    yield


@fault("a lane stopped past its lease, then continued", (LEASE + 3, LEASE + 6), kills=True)
def lane_stopped(ground: Ground) -> Iterator[None]:
    with ground.processes:
        stopped = one_of(ground, ground.stack.lane_horses())
        signal_all(signal.SIGSTOP, *stopped)
    yield
    signal_all(signal.SIGCONT, *stopped)


def _faketime() -> str:
    return next(map(str, Path("/usr/lib").glob(FAKETIME)), "")


@fault(
    "a worker whose clock is an hour off, then kill -9", (4.0, 8.0), kills=True, is_possible=lambda: bool(_faketime())
)
def clock(ground: Ground) -> Iterator[None]:
    wrong = {"LD_PRELOAD": _faketime(), "FAKETIME": ground.chance.choice(["+1h", "-1h"]), "DONT_FAKE_MONOTONIC": "1"}
    command = [sys.executable, "manage.py", "rqworker", "--verbosity", "0", "lanes", "control"]
    with subprocess.Popen(command, cwd=ROOT, env=ground.stack.environment | wrong, stderr=subprocess.DEVNULL) as worker:
        yield
        kill(*children(psutil.Process(worker.pid)))
        worker.kill()


# Redis


@fault("Redis: FLUSHALL")
def flushall(ground: Ground) -> Iterator[None]:
    with suppress(redis.RedisError):
        ground.redis.client.flushall()
    yield


@fault("Redis: killed and started later", (1.0, 6.0))
def redis_away(ground: Ground) -> Iterator[None]:
    with ground.processes:  # `up` would not start without it
        ground.redis.kill()
        yield
        ground.redis.start()


@fault("Redis: every answer 2 s late", (4.0, 8.0))
def redis_slow(ground: Ground) -> Iterator[None]:
    with ground.processes, late(ground.redis.socket_file, seconds=2.0):  # a Redis that starts has its file anew
        ground.redis.part_from_all()
        yield


@fault("Redis: out of memory", (2.0, 6.0))
def redis_full(ground: Ground) -> Iterator[None]:
    with suppress(redis.RedisError):
        ground.redis.client.config_set("maxmemory", "1")
    yield
    for _ in range(20):
        with suppress(redis.RedisError):
            ground.redis.client.config_set("maxmemory", "0")
            return
        time.sleep(0.5)


# PostgreSQL


@fault("PostgreSQL: immediate restart")
def database_restart(ground: Ground) -> Iterator[None]:
    ground.postgres.restart()
    yield


TABLES = (
    *("batches_app_batch", "batches_app_shard", "batches_app_lane", "billing_app_balance", "files_app_storedfile"),
    *("files_app_multipartupload", "billing_app_reservation"),
)


@fault("PostgreSQL: a table locked")
def table_locked(ground: Ground) -> Iterator[None]:
    table = ground.chance.choice(TABLES)
    with suppress(psycopg.Error), ground.connect(options="-c lock_timeout=2s") as connection, connection.transaction():
        connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        time.sleep(ground.chance.uniform(2, 6))
    yield


@fault("PostgreSQL: no connection left", (2.0, 5.0))
def connections_exhausted(ground: Ground) -> Iterator[None]:
    taken = []
    with suppress(psycopg.Error):
        for _ in range(200):
            taken.append(ground.connect())
    yield
    for connection in taken:
        connection.close()


# The blob store


@fault("blob store: full", (1.0, 4.0))
def disk_full(ground: Ground) -> Iterator[None]:
    """No process of the installation may write to a file any more, however small."""
    _limit_files(ground, 0)
    yield
    _limit_files(ground, resource.RLIM_INFINITY)


def _limit_files(ground: Ground, most: int) -> None:
    for process in ground.stack.processes():
        with suppress(psutil.Error, OSError):
            process.rlimit(psutil.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))


def _can_be_read_only() -> bool:
    return os.geteuid() == 0 and _immutable(Path("/var/tmp"), "-")


@fault("blob store: read-only", (1.0, 4.0), is_possible=_can_be_read_only)
def disk_read_only(ground: Ground) -> Iterator[None]:
    folders = [ground.blobs, *(path for path in ground.blobs.rglob("*") if path.is_dir())]
    for folder in folders:
        _immutable(folder, "+")
    try:
        yield
    finally:
        for folder in folders:
            _immutable(folder, "-")


def _immutable(folder: Path, sign: str) -> bool:
    return subprocess.run(["chattr", f"{sign}i", str(folder)], capture_output=True, check=False).returncode == 0


# The upstream


def upstream(name: str, lasts: tuple[float, float] = (1.0, 4.0), **behaviour: Any) -> None:
    def strike(ground: Ground) -> Iterator[None]:
        given = {key: value() if callable(value) else value for key, value in behaviour.items()}
        with ground.answers:
            ground.upstream.control.set(**{"match": "", **given})
            yield
            ground.upstream.control.calm()

    FAULTS.append(Fault(f"upstream: {name}", strike, lasts, False, lambda: True))


def _in_two_seconds() -> dict[str, str]:
    return {"Retry-After": f"{datetime.now(UTC) + timedelta(seconds=2):%a, %d %b %Y %H:%M:%S GMT}"}


FEW = r"cid:\S*[05]\b"  # a fifth of the lines
upstream("429, Retry-After in seconds", status=429, headers={"Retry-After": "1"})
upstream("429, Retry-After as a date", status=429, headers=_in_two_seconds)
upstream("503", status=503)
upstream("401", status=401)
upstream("500", (0.5, 1.5), status=500)
upstream("400 for some", match=FEW, status=400)
upstream("reset in mid-body", (0.5, 1.5), fault="reset")
upstream("hangs", fault="hang", match=FEW)
upstream("one byte a second", fault="drip", match=FEW)
upstream("HTML with 200", (0.5, 1.5), fault="html")
upstream("truncated JSON", (0.5, 1.5), fault="truncated")
upstream("2 GB answer", (0.5, 1.0), fault="huge", bytes=HUGE, match=r"cid:\S*00\b")
upstream("gzip bomb", (0.5, 1.0), fault="bomb", bytes=BOMB, match=r"cid:\S*00\b")
upstream("wrong usage", usage={"prompt_tokens": -1, "completion_tokens": "many", "total_tokens": 10**30}, match=FEW)
upstream("no usage", usage="missing", match=FEW)
upstream("server-sent events, unasked", fault="sse")


@fault("upstream: refused")
def refused(ground: Ground) -> Iterator[None]:
    with ground.answers:
        seconds = ground.chance.uniform(1, 5)
        ground.upstream.control.refuse(seconds)
        time.sleep(seconds)
    yield
