"""(b) The validator's pass over a file: `python -m bench.validating {checker,bare} INPUT` is what (b) measures."""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from batches_app.request_lines import Checker, ModelRules
from batches_app.sharding import Planner
from bench.installation import measured, temporary_folder, write_large, write_small
from bench.meter import MB, own_memory_mb, reset_own_peak
from bench.report import Figure
from files_app.jsonl import read_lines
from tests.stack import CHAT

ROUNDS = 3
MAX_LINE_BYTES = 6 * 1024 * 1024


class _Body(msgspec.Struct, gc=False):
    model: str


class _Line(msgspec.Struct, gc=False):
    custom_id: str
    method: str
    url: str
    body: _Body


def run() -> Iterator[Figure]:
    with temporary_folder() as folder:
        large, small = folder / "large.jsonl", folder / "small.jsonl"
        write_large(large)
        yield from _figures("500 MB", large, least_rate=400, most_memory=60)
        large.unlink()
        write_small(small)
        yield from _figures("50,000 lines of 150 B", small)


def _figures(
    name: str, path: Path, least_rate: float | None = None, most_memory: float | None = None
) -> Iterator[Figure]:
    # One after the other, so that a neighbour's load hits both alike.
    rounds = [
        (measured("bench.validating", "checker", path), measured("bench.validating", "bare", path))
        for _ in range(ROUNDS)
    ]
    size = path.stat().st_size / MB
    rates = [size / ours["seconds"] for ours, _ in rounds]
    bare = median(size / theirs["seconds"] for _, theirs in rounds)
    note = ", ".join(f"{rate:,.0f}" for rate in rates)
    yield Figure("b", f"{name}: Checker", median(rates), "MB/s", at_least=least_rate, note=note)
    yield Figure("b", f"{name}: bare decode of readline", bare, "MB/s")
    yield Figure("b", f"{name}: Checker / bare", median(rates) / bare, "")
    of_cpu = [median(size / each["cpu"] for each in program) for program in zip(*rounds, strict=True)]
    note = f"bare {of_cpu[1]:,.0f}"
    yield Figure("b", f"{name}: Checker, by CPU time", of_cpu[0], "MB/CPU-s", note=note)
    peak = max(ours["above_idle"] for ours, _ in rounds)
    note = f"idle {rounds[0][0]['idle']:.0f} MB"
    yield Figure("b", f"{name}: peak RSS above idle", peak, "MB", at_most=most_memory, note=note)


def _check(path: Path) -> int:
    rules = ModelRules("m", frozenset([CHAT]), None)
    checker = Checker(endpoint=CHAT, find_model=lambda _: rules)
    planner = Planner()
    with path.open("rb") as file:
        for line in read_lines(file, max_bytes=MAX_LINE_BYTES):
            if violations := checker.check(line):
                raise SystemExit(f"The bench's input is not valid: {violations}")
            planner.add(line)
    planner.finish()
    return checker.requests


def _decode(path: Path) -> int:
    decode = msgspec.json.Decoder(_Line).decode
    requests = 0
    with path.open("rb") as file:
        while raw := file.readline():
            decode(raw)
            requests += 1
    return requests


def main(what: str, path: str) -> None:
    work = {"checker": _check, "bare": _decode}[what]
    idle = own_memory_mb("VmRSS")
    reset_own_peak()
    start, cpu = time.monotonic(), time.process_time()
    requests = work(Path(path))
    seconds, cpu = time.monotonic() - start, time.process_time() - cpu
    above = own_memory_mb("VmHWM") - idle
    result: dict[str, Any] = {"requests": requests, "seconds": seconds, "cpu": cpu, "idle": idle, "above_idle": above}
    print(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
