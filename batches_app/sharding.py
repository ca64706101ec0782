"""Cutting a batch's input into shards: runs of lines known by their byte range, small enough to retry as one."""

from dataclasses import dataclass

from files_app.jsonl import Line

MAX_REQUESTS = 256
MAX_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ShardPlan:
    """Lines `first_line` to `last_line` of the input, blank ones between requests included.

    Reading the `size` bytes from `offset` with read_lines(first_number=first_line) gives the same lines again.
    """

    first_line: int
    last_line: int
    requests: int
    offset: int
    size: int


class Planner:
    """Takes every line of one file in order; `shards` then cover each once, in order, within both limits.

    A line alone may be larger than `max_bytes`.
    """

    def __init__(self, max_requests: int = MAX_REQUESTS, max_bytes: int = MAX_BYTES) -> None:
        self._max_requests = max_requests
        self._max_bytes = max_bytes
        self._shards: list[ShardPlan] = []
        self._first: Line | None = None
        self._last_line = 0
        self._requests = 0
        self._end = 0

    def add(self, line: Line) -> None:
        first = self._first
        if first is None or self._requests == self._max_requests or line.end - first.offset > self._max_bytes:
            self._close()
            # Without its bytes: one line may be 6 MB.
            self._first = line._replace(raw=b"")
        self._requests += 1
        self._last_line = line.number
        self._end = line.end

    def finish(self) -> list[ShardPlan]:
        self._close()
        return self._shards

    def _close(self) -> None:
        if (first := self._first) is None:
            return
        size = self._end - first.offset
        self._shards.append(ShardPlan(first.number, self._last_line, self._requests, first.offset, size))
        self._first = None
        self._requests = 0
