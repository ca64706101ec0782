"""A Redis of a test's own."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis, RedisError

from config.redis_server import private_server


@contextmanager
def running(folder: Path) -> Iterator[str]:
    """Its address, at which it answers."""
    server = private_server(folder)
    process = subprocess.Popen(server.command)
    try:
        _wait_for(server.url)
        yield server.url
    finally:
        process.terminate()
        process.wait(10)


def _wait_for(url: str) -> None:
    deadline = time.monotonic() + 10
    with Redis.from_url(url) as client:
        while True:
            try:
                client.ping()
                return
            except RedisError:
                assert time.monotonic() < deadline
                time.sleep(0.02)
