"""What a lane has to commit next, and the patience to do it while the database or the disk is away."""

import logging
import time
from collections.abc import Callable

from django.conf import settings
from django.db import close_old_connections

from batches_app import checkpoints, clock, lanes, lifecycle
from batches_app.backlog import Load
from batches_app.checkpoints import BatchFacts, LineResult, Window
from batches_app.lanes import HeldLane, Report
from config.outages import DATABASE_AWAY

log = logging.getLogger(__name__)

PATIENCE = 2.0  # seconds between two tries
LAST_PATIENCE = 15.0  # seconds, once the lane is to end


class Abandoned(Exception):
    """The lane is to end, and cannot commit what it has: its lines are sent again by whoever can."""


class Flusher:
    """`is_to_end`: whether the lane has been told to, or has lost the worker that would end it."""

    def __init__(self, held: HeldLane, is_to_end: Callable[[], bool]) -> None:
        self._held, self._is_to_end = held, is_to_end
        self._windows: dict[int, Window] = {}
        self._done: dict[int, int] = {}  # shard: batch
        self._results = 0
        self._bytes = 0

    @property
    def has_results(self) -> bool:
        return bool(self._results or self._done)

    @property
    def is_full(self) -> bool:
        return self._results >= settings.FLUSH_RESULTS or self._bytes >= settings.FLUSH_BYTES

    @property
    def checkpoints(self) -> int:
        """How many the next flush will be."""
        return len(self._windows)

    def holds(self, batch_id: int) -> bool:
        return batch_id in self._windows

    def add(self, batch: BatchFacts, load: Load, result: LineResult) -> None:
        window = self._windows.get(batch.id)
        if window is None:
            window = self._windows[batch.id] = Window(batch)
        window.results.append(result)
        self._results += 1
        self._bytes += len(result.text)
        if not load.open:
            self.shard_done(load)

    def shard_done(self, load: Load) -> None:
        self._done[load.shard_id] = load.batch_id

    def flush(self, report: Report) -> frozenset[int]:
        """Commits what there is and renews the lease; returns the batches that take no more results.

        A database or a disk that is away is waited for: results that were paid for are not thrown away, unless nothing
        else can be done. Raises LeaseLost, Abandoned.
        """
        patience = LAST_PATIENCE
        while True:
            try:
                refused = self._commit(report)
                break
            except (*DATABASE_AWAY, OSError) as error:
                log.warning("Lane %s cannot commit its results, and waits: %s", self._held.id, error)
                if self._is_to_end():
                    patience -= PATIENCE
                    if patience < 0:
                        log.error("Lane %s ends without its last results.", self._held.id)
                        raise Abandoned from error
                self._keep_lease(report)
                time.sleep(PATIENCE)
        self._windows, self._done, self._results, self._bytes = {}, {}, 0, 0
        return refused

    def _commit(self, report: Report) -> frozenset[int]:
        windows, done = list(self._windows.values()), list(self._done)
        refused = checkpoints.flush(self._held, windows, done, report, now=clock.now())
        if done:
            lifecycle.complete_if_done(sorted(set(self._done.values()) - refused), now=clock.now())
        return refused

    def _keep_lease(self, report: Report) -> None:
        """A full disk must not make this lane look dead; with the database away, nobody can take it either."""
        try:
            close_old_connections()
            lanes.renew(self._held, report, now=clock.now())
        except DATABASE_AWAY:
            return
