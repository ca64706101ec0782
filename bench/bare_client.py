"""The least that any client of this library can do: `python -m bench.bare_client URL INPUT SLOTS`.

The same CurlClient sends the same bodies with as many in flight, and forgets the answers."""

import json
import resource
import sys
import time
from collections import deque
from pathlib import Path

from batches_app.request_parsing import parse_request
from batches_app.upstream.client import CurlClient, Limits
from files_app.jsonl import read_lines
from tests.stack import CHAT

LIMITS = Limits(connect_timeout=10, silence_timeout=300, total_timeout=900, max_answer_bytes=16 * 1024 * 1024)


def run(url: str, bodies: deque[bytes], slots: int) -> int:
    """How many were answered with 200."""
    client = CurlClient(url=url, api_key=None, slots=slots, limits=LIMITS)
    good = 0
    while bodies or client.in_flight:
        while bodies and client.in_flight < slots:
            client.send(None, CHAT, bodies.popleft(), False)
        good += sum(answer.status == 200 for answer in client.poll(1.0))
    client.close()
    return good


def main(url: str, path: str, slots: str) -> None:
    with Path(path).open("rb") as file:
        bodies = deque(parse_request(line).body for line in read_lines(file, max_bytes=1 << 20))
    wanted, before = len(bodies), _cpu()
    start = time.monotonic()
    good = run(url, bodies, int(slots))
    seconds = time.monotonic() - start
    if good != wanted:
        raise SystemExit(f"Only {good} of {wanted} requests were answered.")
    print(json.dumps({"seconds": seconds, "cpu": _cpu() - before}))


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main(*sys.argv[1:])
