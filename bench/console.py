"""(f) The console's pages, on an installation with many batches."""

import json
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import inf
from pathlib import Path

from bench.installation import temporary_folder
from bench.report import Figure
from config.redis_server import private_server
from tests.stack import Stack

ON_SQLITE, ON_POSTGRESQL = 100_000, 1_000_000
MOST_MS, MOST_QUERIES = 150, 12


def run(batches: int | None = None) -> Iterator[Figure]:
    with temporary_folder() as folder, _redis(folder) as url:
        stack = Stack(folder, REDIS_URL=url, LOG_LEVEL="ERROR")
        count = batches or (ON_POSTGRESQL if "DATABASE_URL" in stack.environment else ON_SQLITE)
        stack.run("migrate")
        start = time.monotonic()
        stack.run("seed_console", f"--batches={count}")
        yield Figure("f", f"seed_console --batches {count}", time.monotonic() - start, "s")
        pages = json.loads(stack.shell("from bench import pages; pages.measure()"))
    yield from (_figure(**page) for page in pages)
    most = max(pages, key=lambda page: int(page["queries"]))
    yield Figure("f", "most queries", most["queries"], "", at_most=MOST_QUERIES, note=most["name"])


def _figure(name: str, status: int, queries: int, cpu: float, seconds: Sequence[float]) -> Figure:
    ordered = sorted(second * 1_000 for second in seconds)
    p50, p95 = ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.95)]
    if status != 200:
        return Figure("f", f"{name}: p95", inf, "ms", at_most=MOST_MS, note=f"status {status}")
    note = f"p50 {p50:.1f}, CPU {cpu * 1_000:.1f}, {queries} queries"
    return Figure("f", f"{name}: p95", p95, "ms", at_most=MOST_MS, note=note)


@contextmanager
def _redis(folder: Path) -> Iterator[str]:
    """The pages ask it for workers and queues."""
    server = private_server(folder)
    process = subprocess.Popen(server.command)
    try:
        yield server.url
    finally:
        process.terminate()
        process.wait()
