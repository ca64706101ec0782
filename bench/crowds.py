"""(g) What one tenant, or anybody, can do to the others: calls beside slow clients, one line beside a million."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median, quantiles

from openai import OpenAI

from bench import slow_clients
from bench.answering import CONNECTIONS, Caller, allow_any_rate, request_of, small_batch
from bench.installation import installation
from bench.report import Figure
from tests.fake_upstream import FakeUpstream
from tests.stack import ROOT, Stack, chat_input, start_batch, wait_for

CALLS, WARM = 4_000, 400
FORM_KIND = "multipart/form-data; boundary=x"
FORM = (
    b'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    b'--x\r\nContent-Disposition: form-data; name="file"; filename="small.jsonl"\r\n\r\n{}\n\r\n--x--\r\n'
)
TENANTS = 3
DOWNLOAD_BYTES = 50_000_000  # more than sockets hold
BATCHES, LINES = 20, 50_000
SINGLES, EVERY = 10, 3.0  # seconds between two of them
LATENCY_MS, CONCURRENCY = "50", "64"
MOST_MORE = 10  # seconds, than alone


def run() -> Iterator[Figure]:
    yield from _slow_clients()
    yield from _one_beside_a_million()


def _slow_clients() -> Iterator[Figure]:
    with installation() as (stack, client):
        allow_any_rate(stack)
        batch_id = small_batch(client)
        callers = {
            "GET /batches/{id}": Caller(stack, request_of(stack, client, f"GET /v1/batches/{batch_id}")),
            "GET /batches": Caller(stack, request_of(stack, client, "GET /v1/batches")),
            "POST /files": Caller(stack, request_of(stack, client, "POST /v1/files", FORM, FORM_KIND)),
        }
        alone = {name: _waits(caller) for name, caller in callers.items()}
        with _crowd(stack):
            time.sleep(2)
            beside = {name: _waits(caller) for name, caller in callers.items()}
    per_tenant = f"{slow_clients.UPLOADS} uploads at 1 MB/s and {slow_clients.DOWNLOADS} unread downloads"
    crowd = (
        f"{slow_clients.SILENT:,} idle, {slow_clients.SLOWLORIS} slowloris, {TENANTS} tenants with {per_tenant} each"
    )
    for name in callers:
        yield from _waited(f"{name} alone", alone[name], f"{CONNECTIONS} connections")
        yield from _waited(f"{name} beside slow clients", beside[name], crowd)


def _waits(caller: Caller) -> list[float]:
    caller.call(WARM)
    return caller.call(CALLS)


def _waited(what: str, waits: list[float], note: str) -> Iterator[Figure]:
    yield Figure("g", f"{what}: median", median(waits) * 1_000, "ms")
    yield Figure("g", f"{what}: p99", quantiles(waits, n=100)[98] * 1_000, "ms", note=note)
    yield Figure("g", f"{what}: longest", max(waits) * 1_000, "ms")


@contextmanager
def _crowd(stack: Stack) -> Iterator[None]:
    tenants = [stack.new_client() for _ in range(TENANTS)]
    files = [tenant.files.create(file=b"{}\n" * (DOWNLOAD_BYTES // 3), purpose="batch") for tenant in tenants]
    arguments = [part for tenant, file in zip(tenants, files, strict=True) for part in (tenant.api_key, file.id)]
    command = [sys.executable, "-m", "bench.slow_clients", str(stack.port), *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        if process.stdout.readline().strip() != slow_clients.READY:
            raise SystemExit("The slow clients did not start.")
        try:
            yield
        finally:
            process.terminate()


def _one_beside_a_million() -> Iterator[Figure]:
    options = ("--cheap", "--latency-ms", LATENCY_MS)
    with FakeUpstream(*options) as upstream, installation() as (stack, single):
        stack.serve(upstream.url, max_concurrency=CONCURRENCY)
        alone = [_one_line(single) for _ in range(SINGLES)]
        many, data = stack.new_client(), chat_input(LINES)
        for _ in range(BATCHES):
            start_batch(many, data)
        beside = []
        for _ in range(SINGLES):
            beside.append(_one_line(single))
            time.sleep(EVERY)
        left = sum(batch.status in ("validating", "in_progress") for batch in many.batches.list())
    yield Figure("g", "one line alone: median", median(alone), "s", note=f"longest of {SINGLES}: {max(alone):.2f}")
    note = f"median {median(beside):.2f}, first {beside[0]:.2f}; {left} of the batches still run"
    name = f"one line beside {BATCHES} x {LINES:,}: longest of {SINGLES}"
    yield Figure("g", name, max(beside), "s", at_most=median(alone) + MOST_MORE, note=note)


def _one_line(client: OpenAI) -> float:
    start = time.monotonic()
    wait_for(client, start_batch(client, chat_input(1)))
    return time.monotonic() - start
