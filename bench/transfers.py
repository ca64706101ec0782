"""(c) 500 MB up and down through the real web server, with http.client."""

import json
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from statistics import median

from bench.installation import LARGE_BYTES, durable_write, installation, temporary_folder, write_large
from bench.meter import FLAT, MB, Meter, difference, rss_mb
from bench.report import Figure
from tests.stack import Stack

ROUNDS = 3
BLOCK = 1024 * 1024
BOUNDARY = "batchdesk-bench"


def run() -> Iterator[Figure]:
    with (
        temporary_folder() as folder,
        installation(ALLOW_INPUT_DOWNLOAD="1") as (stack, client),
        Meter(stack) as meter,
    ):
        path = folder / "large.jsonl"
        write_large(path)
        connection = HTTPConnection("127.0.0.1", stack.port, timeout=120, blocksize=BLOCK)
        headers = {"Authorization": f"Bearer {client.api_key}"}
        _warm_up(connection, headers, folder / "warm.jsonl")
        up, down = [], []
        before, cpu = rss_mb(stack, "web"), meter.cpu()
        for _ in range(ROUNDS):
            seconds, file_id = _upload(connection, headers, path)
            up.append(seconds)
            down.append(_download(connection, headers, file_id, path.stat().st_size))
            client.files.delete(file_id)
        web_cpu = difference(meter.cpu(), cpu)["web"]
        disk = [durable_write(folder, bytes(BLOCK), LARGE_BYTES // BLOCK) for _ in range(ROUNDS)]
        yield _speed("written and fsynced, nothing else", path, disk)
        yield _speed("upload", path, up, least=200)
        yield _speed("download", path, down, least=800)
        yield _growth(stack, before, meter)
        gigabytes = 2 * ROUNDS * path.stat().st_size / 1e9
        yield Figure("c", "web CPU", web_cpu / gigabytes, "s/GB", note="both directions")


def _warm_up(connection: HTTPConnection, headers: dict[str, str], path: Path) -> None:
    """Both workers have imported what they need before their memory counts."""
    path.write_bytes(b"{}\n" * 1_000)
    for _ in range(10):
        _, file_id = _upload(connection, headers, path)
        _download(connection, headers, file_id, path.stat().st_size)
        connection.close()  # the next one may meet the other worker


def _upload(connection: HTTPConnection, headers: dict[str, str], path: Path) -> tuple[float, str]:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    head += f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{path.name}"\r\n'
    head += "Content-Type: application/octet-stream\r\n\r\n"
    tail = f"\r\n--{BOUNDARY}--\r\n"
    start = time.monotonic()
    connection.putrequest("POST", "/v1/files")
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.putheader("Content-Type", f"multipart/form-data; boundary={BOUNDARY}")
    connection.putheader("Content-Length", str(len(head) + path.stat().st_size + len(tail)))
    connection.endheaders()
    connection.send(head.encode())
    with path.open("rb") as file:
        connection.send(file)
    connection.send(tail.encode())
    body = _good(connection.getresponse()).read()
    return time.monotonic() - start, json.loads(body)["id"]


def _download(connection: HTTPConnection, headers: dict[str, str], file_id: str, size: int) -> float:
    start = time.monotonic()
    connection.request("GET", f"/v1/files/{file_id}/content", headers=headers)
    response = _good(connection.getresponse())
    buffer, received = bytearray(BLOCK), 0
    while count := response.readinto(buffer):
        received += count
    if received != size:
        raise SystemExit(f"{received} bytes came of {size}.")
    return time.monotonic() - start


def _good(response: HTTPResponse) -> HTTPResponse:
    if response.status != 200:
        raise SystemExit(f"{response.status}: {response.read()!r}")
    return response


def _speed(name: str, path: Path, seconds: list[float], least: float | None = None) -> Figure:
    speeds = [path.stat().st_size / MB / s for s in seconds]
    note = ", ".join(f"{speed:,.0f}" for speed in speeds)
    return Figure("c", f"500 MB {name}", median(speeds), "MB/s", at_least=least, note=note)


def _growth(stack: Stack, before: float, meter: Meter) -> Figure:
    peak, after = meter.peaks()["web"], rss_mb(stack, "web")
    note = f"{before:.0f} MB before, {after:.0f} MB after, peak {peak:.0f} MB"
    return Figure("c", "web RSS: peak above before", peak - before, "MB", at_most=FLAT, note=note)
