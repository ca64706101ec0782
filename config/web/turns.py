"""Whose turn it is where clients say how long a thread is busy: never of all threads, nor of one caller more than a
share. A caller is a key, or an address without one. Of one thread alone: a worker's main loop."""

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

SHARE, CALLERS_SHARE = 0.75, 0.25  # of the threads
MOST_WAITING, MOST_WAITING_EACH = 400, 100
SECONDS = 300.0  # that it is waited for a turn


@dataclass(frozen=True, slots=True)
class Waiting:
    conn: Any
    caller: Hashable
    until: float


class Turns:
    def __init__(self, threads: int) -> None:
        self._most, self._most_each = max(1, int(threads * SHARE)), max(1, int(threads * CALLERS_SHARE))
        self._taken: Counter[Hashable] = Counter()
        self._waiting: list[Waiting] = []

    def take(self, caller: Hashable) -> bool:
        if self._taken.total() >= self._most or self._taken[caller] >= self._most_each:
            return False
        self._taken[caller] += 1
        return True

    def give_back(self, caller: Hashable) -> None:
        self._taken[caller] -= 1
        self._taken += Counter()  # forgets who has none

    def wait(self, conn: Any, caller: Hashable, now: float) -> bool:
        """False: too many wait already."""
        of_caller = sum(waiting.caller == caller for waiting in self._waiting)
        if len(self._waiting) >= MOST_WAITING or of_caller >= MOST_WAITING_EACH:
            return False
        self._waiting.append(Waiting(conn, caller, now + SECONDS))
        return True

    def due(self) -> list[Waiting]:
        """Those whose turn is now, which they have taken, first come first."""
        due = [waiting for waiting in self._waiting if self.take(waiting.caller)]
        self._waiting = [waiting for waiting in self._waiting if waiting not in due]
        return due

    def late(self, now: float) -> list[Waiting]:
        late = [waiting for waiting in self._waiting if waiting.until <= now]
        self._waiting = [waiting for waiting in self._waiting if waiting.until > now]
        return late
