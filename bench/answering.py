"""(d) How soon a small batch is done. (e) What it costs to ask for a batch."""

import json
import re
import selectors
import socket
import time
from collections.abc import Iterator
from statistics import median, quantiles

from openai import OpenAI

from bench.installation import installation
from bench.meter import Meter, difference
from bench.report import Figure
from tests.stack import Stack, request_line, start_batch, wait_for

TEST_MODEL, TEST_ENDPOINT = "batch-test-model", "/v1/chat/ds-test"
SMALL_BATCHES = 10
CALLS, CONNECTIONS = 4_000, 4
_TIMES = """
import json; from batches_app.models import Batch
print(json.dumps([[b.created_at.timestamp(), b.completed_at.timestamp()] for b in Batch.objects.all()]))
"""
_NO_LIMIT = """
from billing_app.models import Account
for account in Account.objects.all():
    for scope in ("batches.retrieve", "batches.list", "files.create"):
        account.rate_limits.create(scope=scope, per_minute=1_000_000)
"""
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


def run_small_batches() -> Iterator[Figure]:
    with installation() as (stack, client):
        for _ in range(SMALL_BATCHES):
            small_batch(client)
            time.sleep(0.5)  # each one wakes an idle installation
        took = [completed - created for created, completed in json.loads(stack.shell(_TIMES))]
    yield Figure("d", "10 lines, create→completed: median", median(took), "s", at_most=2)
    yield Figure("d", "10 lines, create→completed: max of 10", max(took), "s", at_most=2)


def run_calls() -> Iterator[Figure]:
    with installation() as (stack, client), Meter(stack) as meter:
        allow_any_rate(stack)
        caller = Caller(stack, request_of(stack, client, f"GET /v1/batches/{small_batch(client)}"))
        caller.call(400)  # warm
        time.sleep(1)
        before, start = meter.cpu(), time.monotonic()
        waits = caller.call(CALLS)
        seconds, cpu = time.monotonic() - start, difference(meter.cpu(), before)
    note = f"{CONNECTIONS} kept-alive connections"
    yield Figure("e", "GET /batches/{id}", CALLS / seconds, "requests/s", note=note)
    yield Figure("e", "GET /batches/{id}: median", median(waits) * 1_000, "ms")
    yield Figure("e", "GET /batches/{id}: p99", quantiles(waits, n=100)[98] * 1_000, "ms")
    note = f"Redis {cpu['redis'] / CALLS * 1_000:.2f}"
    yield Figure("e", "GET /batches/{id}: web CPU", cpu["web"] / CALLS * 1_000, "ms/call", at_most=1, note=note)


def allow_any_rate(stack: Stack) -> None:
    """B9 is counted all the same, but never reached."""
    stack.shell(_NO_LIMIT)


def request_of(stack: Stack, client: OpenAI, what: str, body: bytes = b"", kind: str = "application/json") -> bytes:
    head = f"{what} HTTP/1.1\r\nHost: 127.0.0.1:{stack.port}\r\nAuthorization: Bearer {client.api_key}\r\n"
    content = f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n" if body else ""
    return f"{head}{content}\r\n".encode() + body


def small_batch(client: OpenAI) -> str:
    lines = [request_line(str(n), "hello", TEST_MODEL, TEST_ENDPOINT) for n in range(10)]
    batch = wait_for(client, start_batch(client, "\n".join(lines).encode(), endpoint=TEST_ENDPOINT))
    if batch.request_counts.completed != 10:
        raise SystemExit(f"{batch.status}: {batch.errors or batch.request_counts}")
    return str(batch.id)


class Caller:
    """One thread over bare sockets: a client library's own time would show in the p99 on a machine of two cores."""

    def __init__(self, stack: Stack, request: bytes) -> None:
        self._address = ("127.0.0.1", stack.port)
        self._request = request

    def call(self, count: int) -> list[float]:
        """Each one's seconds."""
        waits: list[float] = []
        left = count
        with selectors.DefaultSelector() as selector:
            for _ in range(CONNECTIONS):
                connection = socket.create_connection(self._address)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                selector.register(connection, selectors.EVENT_READ, self._send(connection))
                left -= 1
            while len(waits) < count:
                for key, _ in selector.select(30):
                    assert isinstance(key.fileobj, socket.socket)
                    waits.append(_receive(key.fileobj, key.data))
                    if left > 0:
                        left -= 1
                        selector.modify(key.fileobj, selectors.EVENT_READ, self._send(key.fileobj))
            for key in list(selector.get_map().values()):
                assert isinstance(key.fileobj, socket.socket)
                key.fileobj.close()
        return waits

    def _send(self, connection: socket.socket) -> float:
        connection.sendall(self._request)
        return time.monotonic()


def _receive(connection: socket.socket, sent: float) -> float:
    data = b""
    while not _is_whole(data):
        if not (more := connection.recv(65536)):
            raise SystemExit(f"The server closed the connection: {data!r}")
        data += more
    if not data.startswith(b"HTTP/1.1 200"):
        raise SystemExit(data.decode())
    return time.monotonic() - sent


def _is_whole(data: bytes) -> bool:
    head, found, body = data.partition(b"\r\n\r\n")
    length = _LENGTH.search(head)
    return bool(found and length and len(body) >= int(length[1]))
