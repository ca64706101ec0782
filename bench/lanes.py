"""(a) Requests to an upstream: rate, CPU time, memory, and how near to the bare client and to the ideal schedule."""

import heapq
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from openai import OpenAI

from bench.installation import durable_write, installation, measured, temporary_folder
from bench.meter import FLAT, Meter, difference, largest
from bench.report import Figure
from tests.fake_upstream import FakeUpstream, heavy_tail_ms
from tests.stack import Stack, chat_input, start_batch, wait_for

MEDIAN_MS, P99_MS = 1_000, 10_000
MAX_RSS = 150
_TIMES = """
import json; from batches_app.models import Batch
b = Batch.objects.get(public_id="{id}")
print(json.dumps([t.timestamp() for t in (b.created_at, b.in_progress_at, b.finalizing_at, b.completed_at)]))
"""


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    count: int
    concurrency: int
    upstream: tuple[str, ...] = ()
    rounds: int = 1
    least_rate: float | None = None
    most_cpu: float | None = None
    is_heavy_tailed: bool = False


@dataclass(frozen=True, slots=True)
class Round:
    validating: float  # seconds
    lane: float
    finalizing: float
    cpu: dict[str, float]
    bare: float  # seconds
    bare_cpu: float
    upstream_cpu: float


@dataclass(slots=True)
class Result:
    case: Case
    rounds: list[Round] = field(default_factory=list)
    peaks: dict[str, float] = field(default_factory=dict)


CASES = (
    Case("0 ms", 10_000, 128, rounds=3, least_rate=5_000, most_cpu=0.25),
    Case("50 ms", 10_000, 64, ("--latency-ms", "50"), least_rate=1_150),
    Case("heavy tail", 10_000, 256, ("--heavy-tail", str(MEDIAN_MS), str(P99_MS)), is_heavy_tailed=True),
)
LONG = Case("0 ms, 50,000", 50_000, 128, least_rate=5_000, most_cpu=0.25)


def run() -> Iterator[Figure]:
    yield _fsync()
    peaks = []
    for case in (*CASES, LONG):
        result = _measure(case)
        peaks.append(result.peaks)
        yield from _figures(result)
    yield from _flatness(peaks[0], peaks[-1])


def _fsync() -> Figure:
    with temporary_folder() as folder:
        waits = [durable_write(folder, bytes(100_000)) * 1_000 for _ in range(50)]
    note = f"max {max(waits):.1f}; a lane waits for two with each 256 results or more"
    return Figure("a", "fsync of 100 KB, median of 50", median(waits), "ms", note=note)


def _measure(case: Case) -> Result:
    result = Result(case)
    with (
        FakeUpstream("--cheap", *case.upstream) as upstream,
        temporary_folder() as folder,
        installation() as (stack, client),
        Meter(stack) as meter,
    ):
        stack.serve(upstream.url, max_concurrency=str(case.concurrency))
        path = folder / "input.jsonl"
        path.write_bytes(chat_input(case.count))
        for _ in range(case.rounds):
            result.rounds.append(_round(case, stack, client, meter, upstream, path))
        result.peaks = meter.peaks()
    return result


def _round(case: Case, stack: Stack, client: OpenAI, meter: Meter, upstream: FakeUpstream, path: Path) -> Round:
    before, upstream_before = meter.cpu(), _cpu_of(upstream)
    batch = _completed(client, path.read_bytes())
    time.sleep(1)  # until the jobs' processes are gone
    cpu, upstream_cpu = difference(meter.cpu(), before), _cpu_of(upstream) - upstream_before
    if batch.request_counts.completed != case.count:
        raise SystemExit(f"{case.name}: {batch.status}, {batch.request_counts}")
    created, began, sealed, ended = json.loads(stack.shell(_TIMES.format(id=batch.id)))
    bare = measured("bench.bare_client", upstream.url, path, case.concurrency)
    return Round(began - created, sealed - began, ended - sealed, cpu, bare["seconds"], bare["cpu"], upstream_cpu)


def _completed(client: OpenAI, data: bytes) -> Any:
    batch = start_batch(client, data)
    while batch.status not in ("completed", "failed", "expired", "cancelled"):
        time.sleep(0.5)  # each question costs the installation CPU time that is not the batch's
        batch = client.batches.retrieve(batch.id)
    return wait_for(client, batch)


def _cpu_of(upstream: FakeUpstream) -> float:
    times = psutil.Process(upstream.process.pid).cpu_times()
    return times.user + times.system


def _figures(result: Result) -> Iterator[Figure]:
    case, rounds = result.case, result.rounds
    lane, bare = median(r.lane for r in rounds), median(r.bare for r in rounds)
    whole = median(r.validating + r.lane + r.finalizing for r in rounds)
    each = ", ".join(f"{case.count / r.lane:,.0f}" for r in rounds) if len(rounds) > 1 else ""
    yield _figure(case, "lane", case.count / lane, "requests/s", at_least=case.least_rate, note=each)
    yield _figure(case, "create→completed", case.count / whole, "requests/s", note=_phases(rounds))
    yield _figure(case, "bare client", case.count / bare, "requests/s", note=_beside(case, rounds))
    yield _figure(case, "lane / bare client", bare / lane, "")
    cpu = [sum(r.cpu.values()) for r in rounds]
    per_thousand = median(cpu) / case.count * 1_000
    yield _figure(case, "CPU, all our processes", per_thousand, "s/1,000", at_most=case.most_cpu, note=_roles(result))
    role, peak = largest(result.peaks)
    others = ", ".join(f"{name} {mb:.0f}" for name, mb in sorted(result.peaks.items()) if name != role)
    yield _figure(case, f"peak RSS: {role}", peak, "MB", at_most=MAX_RSS, note=others)
    if case.is_heavy_tailed:
        yield from _makespans(case, lane, bare)


def _figure(case: Case, name: str, value: float, unit: str, **more: Any) -> Figure:
    return Figure("a", f"{case.name}: {name}", value, unit, **more)


def _phases(rounds: Sequence[Round]) -> str:
    phases = {name: median(getattr(r, name) for r in rounds) for name in ("validating", "lane", "finalizing")}
    return ", ".join(f"{name} {seconds:.2f} s" for name, seconds in phases.items())


def _beside(case: Case, rounds: Sequence[Round]) -> str:
    bare, upstream = (median(getattr(r, name) for r in rounds) for name in ("bare_cpu", "upstream_cpu"))
    thousands = case.count / 1_000
    return f"CPU s/1,000: bare client {bare / thousands:.3f}, upstream beside ours {upstream / thousands:.3f}"


def _roles(result: Result) -> str:
    roles = sorted({role for r in result.rounds for role in r.cpu})
    spent = {role: median(r.cpu.get(role, 0.0) for r in result.rounds) for role in roles}
    return ", ".join(f"{role} {s / result.case.count * 1_000:.3f}" for role, s in spent.items())


def _makespans(case: Case, lane: float, bare: float) -> Iterator[Figure]:
    waits = [heavy_tail_ms(str(number), MEDIAN_MS, P99_MS) / 1_000 for number in range(case.count)]
    in_order, plain = schedule(waits, case.concurrency), max(sum(waits) / case.concurrency, max(waits))
    note = f"bound {in_order:.2f} s, lane {lane:.2f} s, bare client {bare:.2f} s"
    yield _figure(case, "makespan / best in input order", lane / in_order, "", at_most=1.1, note=note)
    # Whoever reached this one would have known the longest requests before sending them.
    note = f"bound {plain:.2f} s; in input order at best {in_order / plain:.3f}"
    yield _figure(case, "makespan / max(sum/slots, longest)", lane / plain, "", at_most=1.1, note=note)


def schedule(waits: Sequence[float], slots: int) -> float:
    """When the last ends if each starts, in this order, as soon as a slot is free."""
    ends = list(waits[:slots])
    heapq.heapify(ends)
    for wait in waits[slots:]:
        heapq.heapreplace(ends, ends[0] + wait)
    return max(ends)


def _flatness(short: dict[str, float], long: dict[str, float]) -> Iterator[Figure]:
    for role in ("lanes job", "control job", "web"):
        note = f"{short[role]:.0f} MB → {long[role]:.0f} MB"
        growth = long[role] - short[role]
        yield Figure("a", f"RSS of 50,000 - of 10,000: {role}", growth, "MB", at_most=FLAT, note=note)
