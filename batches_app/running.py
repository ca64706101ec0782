"""The batches that a lane has in hand: from the first shard of one that it claims until it leaves it."""

from collections.abc import Collection
from dataclasses import dataclass

from django.conf import settings

from batches_app import clock, history, lanes, lifecycle
from batches_app.checkpoints import BatchFacts
from batches_app.lanes import HeldLane
from batches_app.models import Batch, Shard
from batches_app.states import Status


@dataclass(slots=True)
class RunningBatch:
    facts: BatchFacts
    endpoint: str
    blob: str
    stopped_at: float | None = None  # monotonic, as first seen here


class RunningBatches:
    def __init__(self, held: HeldLane) -> None:
        self._held = held
        self._batches: dict[int, RunningBatch] = {}

    def __getitem__(self, batch_id: int) -> RunningBatch:
        return self._batches[batch_id]

    @property
    def ids(self) -> list[int]:
        return list(self._batches)

    def of(self, shard: Shard) -> RunningBatch:
        known = self._batches.get(shard.batch_id)
        if known is None:
            batch = Batch.objects.select_related("source", "price").get(pk=shard.batch_id)
            lanes.note(history.CLAIMED, self._held, [batch.pk], now=clock.now())
            known = self._batches[batch.pk] = _running(batch)
        return known

    def stopped(self, now: float) -> set[int]:
        """Cancelled, expired, or done."""
        if not self._batches:
            return set()
        rows = Batch.objects.filter(pk__in=self._batches).exclude(status=Status.IN_PROGRESS)
        stopped = set(rows.values_list("pk", flat=True))
        for pk in stopped:
            self._batches[pk].stopped_at = self._batches[pk].stopped_at or now
        return stopped

    def past_grace(self, stopped: Collection[int], now: float) -> set[int]:
        return {pk for pk in stopped if now > (self._batches[pk].stopped_at or now) + settings.CANCEL_GRACE}

    def leave(self, stopped: Collection[int]) -> None:
        """Stopped batches of which this lane has nothing in flight any more, and no result to commit."""
        for batch_id in stopped:
            del self._batches[batch_id]
            lanes.free_shards(lanes.shards_of(self._held).filter(batch=batch_id))
            lifecycle.ring_if_ending(Batch.objects.get(pk=batch_id))
        lanes.note(history.RELEASED, self._held, stopped, now=clock.now())


def _running(batch: Batch) -> RunningBatch:
    if batch.source is None or batch.price is None:
        raise RuntimeError(f"{batch} runs without its input file or its price.")
    facts = BatchFacts(batch.pk, batch.public_id, batch.account_id, batch.api_key_id, batch.price)
    return RunningBatch(facts, batch.endpoint, batch.source.blob)
