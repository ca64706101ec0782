"""The one atomic fact: results, their charge, the batch's counters and the lease's renewal commit together, or
not at all; and with them what operators are shown of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from django.db import transaction
from django.db.models import F

from batches_app import error_groups, lanes, lifecycle, results, traffic
from batches_app.lanes import HeldLane, Report
from batches_app.models import Batch, Checkpoint, Shard
from batches_app.states import Status
from billing_app import ledger
from billing_app.models import Price
from billing_app.pricing import Tokens
from files_app import blobs

FOLDER = "checkpoints"
ACCEPTED_IN = (Status.IN_PROGRESS, Status.FINALIZING, Status.CANCELLING)


@dataclass(frozen=True, slots=True)
class LineResult:
    """One finished line. `tokens`: None for a failure, and for a success whose usage cannot be billed (flagged)."""

    line: int
    text: bytes
    succeeded: bool
    tokens: Tokens | None


@dataclass(frozen=True, slots=True)
class BatchFacts:
    """What of a batch its results are booked under; none of it changes while it runs."""

    id: int
    public_id: str
    account_id: int
    api_key_id: int | None
    price: Price


@dataclass(slots=True)
class Window:
    """The results of one batch since the last flush."""

    batch: BatchFacts
    results: list[LineResult] = field(default_factory=list)
    blob: str = ""

    def store(self) -> None:
        """Writes the blob, once: a flush that is tried again finds it written."""
        if not self.blob:
            self.blob = blobs.write(folder_of(self.batch.public_id), b"".join(r.text for r in self.results))


def flush(
    held: HeldLane, windows: Sequence[Window], shards_done: Sequence[int], report: Report, *, now: datetime
) -> frozenset[int]:
    """Commits the windows; returns the ids of batches that took no more results, for they were sealed meanwhile.

    Raises LeaseLost: nothing was committed and nothing ever will be.
    """
    for window in windows:
        window.store()
    refused: set[int] = set()
    with transaction.atomic():
        lanes.renew(held, report, now=now)
        if report.minute:
            traffic.write(report.minute, model_id=held.model_id, lane_id=held.id, lane_token=held.token)
        usages: list[ledger.Usage] = []
        # In the order of ids, as every lane does: two lanes with the same two batches would deadlock otherwise.
        for window in sorted(windows, key=lambda window: window.batch.id):
            if Checkpoint.objects.filter(blob=window.blob).exists():
                continue  # the last try did commit; only the answer was lost
            if not _commit(held, window, usages, now):
                refused.add(window.batch.id)
        # After the batches: the locks of balances are the last that are taken.
        for batch_id in sorted(ledger.record(usages, now=now)):
            lifecycle.stop_uncovered(batch_id, now=now)
        if shards_done:
            lanes.shards_of(held).filter(pk__in=shards_done).exclude(batch_id__in=refused).update(
                state=Shard.State.DONE
            )
    for window in windows:
        if window.batch.id in refused:
            blobs.delete(window.blob)
    return frozenset(refused)


def _commit(held: HeldLane, window: Window, usages: list[ledger.Usage], now: datetime) -> bool:
    """Adds what is to be charged to `usages`. False: the batch takes no more results."""
    succeeded = [result for result in window.results if result.succeeded]
    billed = [result.tokens for result in succeeded if result.tokens is not None]
    tokens = sum(billed, Tokens())
    open_batch = Batch.objects.filter(pk=window.batch.id, sealed_at=None, status__in=ACCEPTED_IN)
    accepted = open_batch.update(
        completed=F("completed") + len(succeeded),
        failed=F("failed") + len(window.results) - len(succeeded),
        flagged=F("flagged") + len(succeeded) - len(billed),
        input_tokens=F("input_tokens") + tokens.input,
        cached_tokens=F("cached_tokens") + tokens.cached,
        output_tokens=F("output_tokens") + tokens.output,
        reasoning_tokens=F("reasoning_tokens") + tokens.reasoning,
    )
    if not accepted:
        return False
    Checkpoint.objects.create(
        batch_id=window.batch.id,
        blob=window.blob,
        index=results.pack_index(results.IndexEntry(r.line, not r.succeeded, len(r.text)) for r in window.results),
        first_line=min(result.line for result in window.results),
        last_line=max(result.line for result in window.results),
        lane_id=held.id,
        lane_token=held.token,
        created_at=now,
    )
    if len(succeeded) < len(window.results):
        errors = ((result.line, result.text) for result in window.results if not result.succeeded)
        error_groups.add(window.batch.id, error_groups.found_in(errors))
    if billed:
        usages.append(_usage(window, len(billed), tokens))
    return True


def _usage(window: Window, requests: int, tokens: Tokens) -> ledger.Usage:
    return ledger.Usage(
        key=window.blob,
        account_id=window.batch.account_id,
        api_key_id=window.batch.api_key_id,
        batch_id=window.batch.public_id,
        price=window.batch.price,
        requests=requests,
        tokens=tokens,
    )


def done_lines(shard: Shard) -> set[int]:
    """The lines of a shard that have their result: what an earlier holder of the shard did before it ended."""
    overlapping = Checkpoint.objects.filter(
        batch=shard.batch_id, first_line__lte=shard.last_line, last_line__gte=shard.first_line
    )
    return {
        entry.line
        for index in overlapping.values_list("index", flat=True)
        for entry in results.unpack_index(bytes(index))
        if shard.first_line <= entry.line <= shard.last_line
    }


def folder_of(batch_public_id: str) -> str:
    return f"{FOLDER}/{batch_public_id}"
