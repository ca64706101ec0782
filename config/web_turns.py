"""Whose turn it is where clients say how long a thread is busy: never of all threads, nor of one caller more than a
share. Of one thread alone: a worker's main loop."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

SHARE, CALLERS_SHARE = 0.75, 0.25  # of the threads
MOST_WAITING = 100  # of one caller
SECONDS = 300.0  # that it is waited for a turn


@dataclass(frozen=True, slots=True)
class _Waiting:
    conn: Any
    caller: int
    until: float


class Turns:
    def __init__(self, threads: int) -> None:
        self._most, self._most_each = max(1, int(threads * SHARE)), max(1, int(threads * CALLERS_SHARE))
        self._taken: Counter[int] = Counter()
        self._waiting: list[_Waiting] = []

    def take(self, caller: int) -> bool:
        if self._taken.total() >= self._most or self._taken[caller] >= self._most_each:
            return False
        self._taken[caller] += 1
        return True

    def give_back(self, caller: int) -> None:
        self._taken[caller] -= 1
        self._taken += Counter()  # forgets who has none

    def wait(self, conn: Any, caller: int, now: float) -> bool:
        """False: too many of this caller wait already."""
        if sum(waiting.caller == caller for waiting in self._waiting) >= MOST_WAITING:
            return False
        self._waiting.append(_Waiting(conn, caller, now + SECONDS))
        return True

    def due(self) -> Iterator[tuple[Any, int]]:
        """Those whose turn is now, which they have taken, first come first."""
        left = []
        for waiting in self._waiting:
            if self.take(waiting.caller):
                yield waiting.conn, waiting.caller
            else:
                left.append(waiting)
        self._waiting = left

    def late(self, now: float) -> list[Any]:
        late = [waiting.conn for waiting in self._waiting if waiting.until <= now]
        self._waiting = [waiting for waiting in self._waiting if waiting.until > now]
        return late
