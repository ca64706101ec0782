"""Batches that have ended: their rows, with those of their files, errors, events and charges; but no bytes."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from random import Random
from typing import Any

from django.db import transaction

from batches_app.models import Batch, BatchEvent, ErrorGroup
from batches_app.seeding import vocabulary
from batches_app.seeding.books import Books
from batches_app.seeding.cast import Cast
from batches_app.seeding.ended import Ended, Failures, Storyteller
from batches_app.seeding.loading import Row, Table, heed_given_ids, next_id
from batches_app.states import Status
from billing_app.models import LedgerEntry
from billing_app.pricing import minus
from files_app.models import StoredFile

CHUNK = 10_000
EVENTS_KEPT = timedelta(hours=36)
INPUTS_KEPT, RESULTS_KEPT = timedelta(days=14), timedelta(days=30)
HOSTS = ("worker-1", "worker-2", "worker-3")

BATCHES = (
    "id", "public_id", "account_id", "api_key_id", "endpoint", "completion_window", "metadata", "name",
    "input_file_id", "source_id", "output_file_id", "error_file_id", "status", "created_at", "expires_at",
    "in_progress_at", "finalizing_at", "completed_at", "failed_at", "expired_at", "cancelling_at", "cancelled_at",
    "sealed_at", "errors", "model_name", "model_id", "price_id", "enqueued_tokens", "total", "completed", "failed",
    "flagged", "input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens", "parent_id", "retried_code",
)  # fmt: skip
FILES = ("id", "public_id", "account_id", "purpose", "filename", "bytes", "sha256", "blob", "created_at", "expires_at")
GROUPS = ("batch_id", "code", "count", "first_line", "custom_id", "message")
EVENTS = ("batch_id", "at", "kind", "lane", "owner")
ENTRIES = (
    "key", "account_id", "kind", "amount", "month", "created_at", "batch_id", "api_key_id", "model_name", "price_id",
    "requests", "input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens",
)  # fmt: skip


@dataclass(slots=True)
class Chunk:
    files: list[Row] = field(default_factory=list)
    batches: list[Row] = field(default_factory=list)
    groups: list[Row] = field(default_factory=list)
    events: list[Row] = field(default_factory=list)
    entries: list[Row] = field(default_factory=list)


class Past:
    def __init__(self, cast: Cast, books: Books, rng: Random, *, now: datetime) -> None:
        self._storyteller = Storyteller(cast, rng, now)
        self._books, self._rng, self._now = books, rng, now
        self._batch_id = self._file_id = 0

    def write(self, moments: Iterator[datetime]) -> None:
        self._batch_id, self._file_id = next_id(Batch), next_id(StoredFile)
        while some := list(islice(moments, CHUNK)):
            chunk = Chunk()
            for moment in some:
                self._add(chunk, self._storyteller.tell(moment))
            _load(chunk)
        heed_given_ids(Batch, StoredFile)

    def _add(self, chunk: Chunk, story: Ended) -> None:
        story.pk, self._batch_id = self._batch_id, self._batch_id + 1
        public_id = f"batch_{self._rng.getrandbits(128):032x}"
        input_id, source = self._input(chunk, story)
        output_id = self._result(chunk, story, public_id, "output", story.completed)
        error_id = self._result(chunk, story, public_id, "error", story.total - story.completed)
        chunk.batches.append(self._batch(story, public_id, input_id, source, output_id, error_id))
        chunk.groups += [_group(story, failures) for failures in story.failures]
        if self._now - story.ended < EVENTS_KEPT and story.total:
            chunk.events += self._events(story)
        if story.tokens.total:
            chunk.entries.append(self._entry(story, public_id))

    def _batch(self, story: Ended, public_id: str, input_id: str, source: int | None, *results: str) -> Row:
        began = story.status is not Status.FAILED
        cancelled = story.status is Status.CANCELLED
        ends = [story.ended if story.status is end else None for end in _ENDS]
        model, tokens = story.served.model, story.tokens
        return (
            *(story.pk, public_id, story.tenant.account.pk, story.key, story.served.endpoint, story.window),
            *(self._metadata(story), story.name, input_id, source, *results, str(story.status)),
            *(story.created, story.deadline, story.began if began else None),
            story.merged if began and not cancelled else None,
            *(ends[0], ends[1], ends[2], story.merged if cancelled else None, ends[3], story.merged if began else None),
            *(None if began else self._violations(), model.name if began else "", model.pk if began else None),
            story.served.price_at(story.created).pk if began else None,
            *(story.total * (story.served.input_tokens + story.served.output_tokens), story.total, story.completed),
            *(story.failed, story.flagged, tokens.input, tokens.cached, tokens.output, tokens.reasoning),
            *(story.parent.pk if story.parent else None, story.retried_code),
        )

    def _metadata(self, story: Ended) -> dict[str, str] | None:
        named = {"ds_name": story.name} if story.name else {}
        return named | {"team": self._rng.choice(vocabulary.TEAMS)} if self._rng.random() < 0.4 else named or None

    def _violations(self) -> list[dict[str, Any]]:
        code, message, param = self._rng.choice(vocabulary.VIOLATIONS)
        lines = sorted(self._rng.sample(range(1, 900), self._rng.randint(1, 6)))
        return [{"code": code, "message": message, "param": param, "line": line} for line in lines]

    def _input(self, chunk: Chunk, story: Ended) -> tuple[str, int | None]:
        """Tenants delete most inputs after a while: then there is no row, and only the id is left."""
        public_id = f"file-batch-{self._rng.getrandbits(96):024x}"
        if self._now - story.created > INPUTS_KEPT and self._rng.random() < 0.75:
            return public_id, None
        name = story.name.split(" ")[0].lower() if story.name else "requests"
        size = (story.total or 40) * (110 + 4 * story.served.input_tokens)
        uploaded = story.created - timedelta(seconds=self._rng.uniform(1, 40))
        return public_id, self._file(chunk, story, public_id, "batch", f"{name}.jsonl", size, uploaded)

    def _result(self, chunk: Chunk, story: Ended, batch_id: str, kind: str, lines: int) -> str:
        if not lines:
            return ""
        public_id = f"file-batch_output-{self._rng.getrandbits(96):024x}"
        if self._now - story.ended < RESULTS_KEPT or self._rng.random() < 0.25:
            size = lines * (420 + 4 * story.served.output_tokens if kind == "output" else 330)
            self._file(chunk, story, public_id, "batch_output", f"{batch_id}_{kind}.jsonl", size, story.ended)
        return public_id

    def _file(
        self, chunk: Chunk, story: Ended, public_id: str, purpose: str, filename: str, size: int, at: datetime
    ) -> int:
        pk, self._file_id = self._file_id, self._file_id + 1
        account, digest = story.tenant.account.pk, self._rng.getrandbits(256)
        blob = f"files/{at:%Y-%m-%d}/{digest >> 128:032x}"
        # A tenant who lets results expire lets all of them.
        expires = at + RESULTS_KEPT + timedelta(days=60) if account % 3 == 0 and purpose == "batch_output" else None
        chunk.files.append((pk, public_id, account, purpose, filename, size, f"{digest:064x}", blob, at, expires))
        self._books.keep(account, size)
        return pk

    def _events(self, story: Ended) -> Iterator[Row]:
        rng, at = self._rng, story.began
        for _ in range(min(4, 1 + story.total // 3_000)):
            owner = f"{rng.choice(HOSTS)}:{rng.randint(1000, 32000)}"
            lane = f"{story.served.model.name} lane {rng.randint(0, 1)}"
            step = (story.merged - at) * rng.uniform(0.4, 0.95)
            yield (story.pk, at, "claimed", lane, owner)
            yield (story.pk, at + step, "lost" if rng.random() < 0.03 else "released", lane, owner)
            at += step

    def _entry(self, story: Ended, public_id: str) -> Row:
        price, tokens, requests = story.served.price_at(story.created), story.tokens, story.completed - story.flagged
        account = story.tenant.account.pk
        month, cost = self._books.use(account, story.key, price, requests, tokens, story.merged)
        return (
            *(f"checkpoints/{public_id}/{self._rng.getrandbits(128):032x}", account, "usage", minus(cost), month),
            *(story.merged, public_id, story.key, price.model_name, price.pk, requests),
            *(tokens.input, tokens.cached, tokens.output, tokens.reasoning),
        )


# In the order of their columns
_ENDS = (Status.COMPLETED, Status.FAILED, Status.EXPIRED, Status.CANCELLED)


def _group(story: Ended, failures: Failures) -> Row:
    line, trouble = failures.first_line, failures.trouble
    return (story.pk, trouble.code, failures.count, line, f"row-{line}", trouble.message)


@transaction.atomic
def _load(chunk: Chunk) -> None:
    Table(StoredFile, *FILES).load(chunk.files)
    Table(Batch, *BATCHES).load(chunk.batches)
    Table(ErrorGroup, *GROUPS).load(chunk.groups)
    Table(BatchEvent, *EVENTS).load(chunk.events)
    Table(LedgerEntry, *ENTRIES).load(chunk.entries)
