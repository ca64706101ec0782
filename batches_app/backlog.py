"""The lines that a lane has in hand: not yet sent, in flight, or waiting to be tried again; and whose turn it is."""

import heapq
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import count

from batches_app.upstream.retry import Attempts
from files_app import jsonl


@dataclass(slots=True)
class Load:
    """A claimed shard. `open`: how many of its lines have no result yet."""

    shard_id: int
    batch_id: int
    account_id: int
    weight: int
    open: int = 0
    crashes: Mapping[str, int] = field(default_factory=dict)  # by line (poison.py)


@dataclass(slots=True, eq=False)
class Item:
    load: Load
    line: jsonl.Line
    attempts: Attempts
    custom_id: str = ""


@dataclass(slots=True)
class _Share:
    """One account's part of the lane."""

    weight: int
    in_flight: int = 0
    unsent: deque[Item] = field(default_factory=deque)


class Backlog:
    """`bytes`: of all lines in hand; `unsent`: lines that may be sent now; `size`: lines in hand."""

    def __init__(self) -> None:
        self.bytes = 0
        self.unsent = 0
        self.size = 0
        self._shares: dict[int, _Share] = {}
        self._later: list[tuple[float, int, Item]] = []
        self._sequence = count()
        self._in_flight: Counter[int] = Counter()  # by batch

    def add(self, load: Load, items: Iterable[Item]) -> None:
        share = self._shares.setdefault(load.account_id, _Share(load.weight))
        for item in items:
            share.unsent.append(item)
            self.unsent += 1
            self.size += 1
            self.bytes += len(item.line.raw)

    def next(self, now: float) -> Item | None:
        """The next line to send, of the account with the least in flight for its weight; it is in flight from here."""
        while self._later and self._later[0][0] <= now:
            self._queue(heapq.heappop(self._later)[2])
        shares = [share for share in self._shares.values() if share.unsent]
        if not shares:
            return None
        share = shares[0] if len(shares) == 1 else min(shares, key=lambda share: share.in_flight / share.weight)
        share.in_flight += 1
        self.unsent -= 1
        item = share.unsent.popleft()
        self._in_flight[item.load.batch_id] += 1
        return item

    def put_back(self, item: Item, not_before: float | None = None) -> None:
        """Takes a line that was in flight back, to be sent again at its turn, or after `not_before` (monotonic)."""
        self._landed(item)
        if not_before is None:
            self._queue(item)
        else:
            heapq.heappush(self._later, (not_before, next(self._sequence), item))

    def finish(self, item: Item) -> None:
        """The line that was in flight has its result."""
        item.load.open -= 1
        self.give_up(item)

    def give_up(self, item: Item) -> None:
        """The line that was in flight is no longer this lane's concern."""
        share = self._landed(item)
        self._forget(item)
        if not share.unsent and not share.in_flight and not self._later:
            del self._shares[item.load.account_id]

    def drop_unsent(self, batch_ids: set[int]) -> None:
        """Forgets the lines of stopped batches that are not in flight."""
        for share in self._shares.values():
            kept = deque(item for item in share.unsent if item.load.batch_id not in batch_ids)
            self.unsent -= len(share.unsent) - len(kept)
            for item in share.unsent:
                if item.load.batch_id in batch_ids:
                    self._forget(item)
            share.unsent = kept
        for _, _, item in self._later:
            if item.load.batch_id in batch_ids:
                self._forget(item)
        self._later = [entry for entry in self._later if entry[2].load.batch_id not in batch_ids]
        heapq.heapify(self._later)

    def next_at(self) -> float | None:
        """When the first line that waits for another try may be sent (monotonic)."""
        return self._later[0][0] if self._later else None

    def is_in_flight(self, batch_id: int) -> bool:
        return self._in_flight[batch_id] > 0

    def accounts(self) -> list[int]:
        """The accounts with lines that may be sent now."""
        return [account_id for account_id, share in self._shares.items() if share.unsent]

    def _landed(self, item: Item) -> _Share:
        share = self._shares[item.load.account_id]
        share.in_flight -= 1
        self._in_flight[item.load.batch_id] -= 1
        return share

    def _queue(self, item: Item) -> None:
        self._shares[item.load.account_id].unsent.append(item)
        self.unsent += 1

    def _forget(self, item: Item) -> None:
        self.size -= 1
        self.bytes -= len(item.line.raw)
