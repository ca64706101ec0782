"""The end of a batch: checkpoints merged in input order into the result files. Re-runnable: nothing is visible
before one transaction makes files and terminal state known; of two that do the same work, one wins."""

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from io import BytesIO
from typing import Any

from django.conf import settings
from django.core.files.uploadedfile import TemporaryUploadedFile
from django.db import transaction

from batches_app import checkpoints, clock, error_groups, lifecycle, results
from batches_app.error_groups import Found
from batches_app.models import Batch, Shard
from batches_app.places import BlobReader, Place, of_batch
from batches_app.request_lines import parse_request
from batches_app.results import ErrorCode, Outcome
from batches_app.states import ENDING, Status
from billing_app import quotas
from config.api import ids
from files_app import blobs, jsonl
from files_app.models import StoredFile


def finalize(batch_id: int) -> None:
    batch = lifecycle.claim_stage(batch_id, ENDING, now=clock.now())
    if batch is None:
        return
    try:
        if lifecycle.seal_if_drained(batch, now=clock.now()):
            _conclude(batch)
    finally:
        lifecycle.release_stage(batch)


def _conclude(batch: Batch) -> None:
    with ExitStack() as stack:
        output, errors = ResultFile(batch, "output", stack), ResultFile(batch, "error", stack)
        ended_as, unrun = _merge(batch, output, errors)
        blob_names = [file.store() for file in (output, errors) if file.size]
        now = clock.now()
        with transaction.atomic():
            won = lifecycle.conclude(
                batch, ended_as, now=now, output_file_id=output.public_id, error_file_id=errors.public_id
            )
            if won:
                output.create_row(now)
                errors.create_row(now)
                error_groups.add(batch.pk, unrun)
    if not won:
        for name in blob_names:
            blobs.delete(name)
        return
    blobs.delete_folder(checkpoints.folder_of(batch.public_id))


@dataclass(slots=True)
class ResultFile:
    """A result file in the making (F4)."""

    batch: Batch
    kind: str
    stack: ExitStack
    size: int = 0
    blob: str = ""
    _public_id: str = field(default_factory=ids.output_file_id)
    _hash: Any = field(default_factory=hashlib.sha256)
    _file: Any = None

    def write(self, data: bytes) -> None:
        if self._file is None:
            self._file = self.stack.enter_context(TemporaryUploadedFile(self.kind, "", 0, ""))
        self._file.write(data)
        self._hash.update(data)
        self.size += len(data)

    def store(self) -> str:
        self._file.flush()
        self._file.seek(0)
        self.blob = blobs.write(f"files/{clock.now():%Y-%m-%d}", self._file)
        return self.blob

    @property
    def public_id(self) -> str:
        """B11: a file that would be empty is never made, and has none."""
        return self._public_id if self.blob else ""

    def create_row(self, now: datetime) -> None:
        if not self.blob:
            return
        expires_after = self.batch.output_expires_after
        quotas.keep(self.batch.account, files=1, size=self.size)
        StoredFile.objects.create(
            public_id=self.public_id,
            account_id=self.batch.account_id,
            purpose=StoredFile.Purpose.BATCH_OUTPUT,
            filename=f"{self.batch.public_id}_{self.kind}.jsonl",
            bytes=self.size,
            sha256=self._hash.hexdigest(),
            blob=self.blob,
            created_at=now,
            expires_at=now + timedelta(seconds=expires_after) if expires_after else None,
        )


def _merge(batch: Batch, output: ResultFile, errors: ResultFile) -> tuple[Status, dict[str, Found]]:
    """Writes both files in input order. Returns the state that the batch ends in, and what was never run."""
    cancelled = batch.status == Status.CANCELLING
    code = ErrorCode.BATCH_CANCELLED if cancelled else ErrorCode.BATCH_EXPIRED
    unrun: dict[str, Found] = {}
    with BlobReader() as reader:
        for shard, places in _by_shard(batch):
            missing = _unrun_lines(batch, shard, places, code) if len(places) < shard.requests else {}
            for line, text in missing.items():
                unrun.setdefault(code, Found(0, line, text)).add(line, text)
            for line in sorted([*places, *missing]):
                if line in missing:
                    errors.write(missing[line])
                else:
                    (errors if places[line].failed else output).write(reader.read(places[line]))
            lifecycle.renew_stage(batch, now=clock.now())
    if cancelled:
        return Status.CANCELLED, unrun
    return Status.EXPIRED if unrun else Status.COMPLETED, unrun


def _by_shard(batch: Batch) -> Iterator[tuple[Shard, dict[int, Place]]]:
    places = of_batch(batch)
    position = 0
    for shard in batch.shards.order_by("first_line"):
        start = position
        while position < len(places) and places[position].line <= shard.last_line:
            position += 1
        mine = {place.line: place for place in places[start:position]}
        if len(mine) != position - start:
            raise RuntimeError(f"{batch}: a line between {shard.first_line} and {shard.last_line} has two results.")
        yield shard, mine


def _unrun_lines(batch: Batch, shard: Shard, places: dict[int, Place], code: str) -> dict[int, bytes]:
    """B10: the requests of a shard that never finished, as error lines."""
    assert batch.source is not None  # held until the batch has ended
    outcome = Outcome(None, None, b"", code, _UNRUN[code])
    data = blobs.read_range(batch.source.blob, shard.offset, shard.size)
    lines = jsonl.read_lines(BytesIO(data), max_bytes=settings.MAX_LINE_BYTES, first_number=shard.first_line)
    unrun = (parse_request(line) for line in lines if line.number not in places)
    return {request.number: results.result_line(request.custom_id, outcome) for request in unrun}


_UNRUN = {
    ErrorCode.BATCH_CANCELLED: "The batch was cancelled before this request was finished.",
    ErrorCode.BATCH_EXPIRED: "The batch expired before this request was finished.",
}
