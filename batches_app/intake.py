"""What a lane takes in hand: the shards that it claims, cut into lines for its backlog."""

import logging
import time
from collections.abc import Collection
from io import BytesIO

from django.conf import settings

from batches_app import lanes, poison
from batches_app.backlog import Backlog, Item, Load
from batches_app.checkpoints import done_lines
from batches_app.flushing import Flusher
from batches_app.lanes import HeldLane
from batches_app.models import Shard
from batches_app.running import RunningBatches
from batches_app.upstream.retry import Attempts, Budget
from files_app import blobs, jsonl

log = logging.getLogger(__name__)

CLAIMS_AT_ONCE = 32
UNREAD_SECONDS = 10.0  # that a batch is let be whose input cannot be read


class Intake:
    """`suspicion`: of the shard that it took last."""

    def __init__(self, held: HeldLane, backlog: Backlog, flusher: Flusher, batches: RunningBatches) -> None:
        self.suspicion = poison.Suspicion()
        self._held, self._backlog, self._flusher, self._batches = held, backlog, flusher, batches
        self._unread: dict[int, float] = {}  # batch: when to try it again
        self._budget = Budget(max_attempts=settings.UPSTREAM_MAX_ATTEMPTS, max_seconds=settings.UPSTREAM_RETRY_BUDGET)

    @property
    def has_enough(self) -> bool:
        is_alone = self.suspicion.is_alone and self._backlog.size > 0
        return is_alone or self._backlog.bytes >= settings.LANE_BUFFER_BYTES

    @property
    def waits(self) -> bool:
        """For an input that could not be read."""
        return bool(self._unread)

    def one(self) -> bool:
        """The next shard that can be read. False: there is none."""
        while (shard := self._claim()) is not None:
            if self._take(shard):
                return True
        return False

    def for_others(self) -> None:
        """A shard for each account that this lane has no line of: a small batch need not wait for a large one."""
        for _ in range(CLAIMS_AT_ONCE):
            shard = None if self.has_enough else self._claim(besides=self._backlog.accounts())
            if shard is None:
                return
            self._take(shard)

    def _claim(self, besides: Collection[int] = ()) -> Shard | None:
        without = self._without()
        suspect = None if self._backlog.size else lanes.claim_suspect(self._held, without=without)
        return suspect or lanes.claim(self._held, besides=besides, without=without)

    def _without(self) -> Collection[int]:
        now = time.monotonic()
        self._unread = {batch_id: until for batch_id, until in self._unread.items() if until > now}
        return self._unread.keys()

    def _take(self, shard: Shard) -> bool:
        """False: it cannot be read. Another machine may be able to; here it would be the next again at once."""
        batch = self._batches.of(shard)
        try:
            data = blobs.read_range(batch.blob, shard.offset, shard.size)
        except OSError as error:
            log.error("Lane %s cannot read %s: %s", self._held.id, batch.facts.public_id, error)
            lanes.free_shards(Shard.objects.filter(pk=shard.pk))
            self._unread[shard.batch_id] = time.monotonic() + UNREAD_SECONDS
            return False
        done = done_lines(shard) if shard.claims > 1 else set()
        load = Load(shard.pk, shard.batch_id, shard.account_id, shard.account.weight, crashes=shard.crashes)
        lines = jsonl.read_lines(BytesIO(data), max_bytes=settings.MAX_LINE_BYTES, first_number=shard.first_line)
        items = [Item(load, line, Attempts(self._budget)) for line in lines if line.number not in done]
        load.open = len(items)
        self._backlog.add(load, items)
        self.suspicion.took(shard)
        if not items:
            self._flusher.shard_done(load)
        return True
