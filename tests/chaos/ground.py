"""What chaos happens to: an installation whose PostgreSQL, Redis and upstream are this process's to break."""

import random
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Any

import psutil
import psycopg
import redis
import requests

from config.redis_server import private_server
from tests.fake_upstream import FakeUpstream
from tests.postgres import get_server, pg_ctl
from tests.stack import Stack, children, runs

MODEL = "m"
CONCURRENCY = 64
LANES = 2  # of the model, so that they meet over its batches
WORKERS = 3
PERMITS = str(CONCURRENCY // LANES)
# Shorter than in life, where an upstream that is silent for five minutes may still be at work.
PATIENCE = {"UPSTREAM_SILENCE_TIMEOUT": "5", "UPSTREAM_TOTAL_TIMEOUT": "12", "CANCEL_GRACE": "2"}


class Redis:
    def __init__(self, folder: Path) -> None:
        server = private_server(folder)
        self.url, self._command = server.url, server.command
        self.socket_file = folder / "redis.sock"
        self.client = redis.Redis.from_url(server.url, socket_timeout=10)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(self._command)
        while not self._answers():
            time.sleep(0.05)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def part_from_all(self) -> None:
        """They connect again."""
        for kind in ("normal", "pubsub"):
            self.client.client_kill_filter(_type=kind)

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False


class Postgres:
    def __init__(self, folder: Path) -> None:
        self._server = get_server(folder, cleanup_mode="stop")
        self.url = str(self._server.get_uri())

    def restart(self) -> None:
        """As after a crash: no connection is said goodbye to, and no checkpoint written."""
        pg_ctl(["-w", "restart", "-m", "immediate"], pgdata=self._server.pgdata, user=self._server.system_user)

    def stop(self) -> None:
        self._server.cleanup()


class Ground:
    def __init__(
        self, folder: Path, postgres: Postgres, redis: Redis, upstream: FakeUpstream, chance: random.Random
    ) -> None:
        self.folder, self.postgres, self.redis, self.upstream = folder, postgres, redis, upstream
        self.database = postgres.url
        servers = {"DATABASE_URL": self.database, "REDIS_URL": redis.url}
        self.stack = Stack(folder, workers=WORKERS, LOG_LEVEL="WARNING", LANE_PERMITS=PERMITS, **servers, **PATIENCE)
        self.blobs = folder / "blobs"
        self.chance = chance
        # Of these two sorts one fault at a time: two would undo each other.
        self.processes, self.answers = Lock(), Lock()

    def connect(self, **options: Any) -> "psycopg.Connection[Any]":
        return psycopg.connect(self.database, autocommit=True, connect_timeout=5, **options)

    def web_workers(self) -> list[psutil.Process]:
        return [worker for master in self.web_masters() for worker in children(master)]

    def web_masters(self) -> list[psutil.Process]:
        web = [process for process in self.stack.processes() if runs(process, "gunicorn")]
        return [process for process in web if not any(parent in web for parent in parents(process))]

    def programs(self, *words: str) -> list[psutil.Process]:
        return [process for process in self.stack.processes() if runs(process, *words)]


def session(**headers: str) -> requests.Session:
    made = requests.Session()
    made.trust_env = False  # there may be a proxy in the environment
    made.headers.update(headers)
    return made


@contextmanager
def ground(chance: random.Random) -> Iterator[Ground]:
    with tempfile.TemporaryDirectory(prefix="batchdesk-chaos-") as name, FakeUpstream() as upstream:
        folder = Path(name)
        folder.chmod(0o755)  # PostgreSQL is another user where this one is root
        postgres, server = Postgres(folder / "postgres"), Redis(folder)
        server.start()
        try:
            made = Ground(folder, postgres, server, upstream, chance)
            made.stack.run("migrate")
            made.stack.serve(upstream.url, MODEL, max_concurrency=str(CONCURRENCY))
            with made.stack:
                yield made
        finally:
            server.kill()
            server.client.close()
            postgres.stop()


def parents(process: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.Error):
        return list(process.parents())
    return []
