"""A line of a batch as somebody looks at it, and what is needed to get at it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import BinaryIO, Protocol

from batches_app.models import Batch
from files_app import blobs, heads
from files_app.models import StoredFile

HEAD_BYTES = 64 * 1024  # of a result: enough for its id and, as a rule, for what an error says


class Kind(StrEnum):
    ALL = "all"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    WAITING = "waiting"  # no result yet


class Gone(Exception):
    """The file that it was in was deleted, or the batch has ended since, or there never was such a line."""


@dataclass(frozen=True, slots=True)
class Bytes:
    """Where a line is, to be read as far as somebody wants it."""

    blob: str
    offset: int
    size: int

    def read(self, most: int) -> bytes:
        """Raises Gone."""
        try:
            return blobs.read_range(self.blob, self.offset, min(most, self.size))
        except FileNotFoundError:
            raise Gone from None


@dataclass(frozen=True, slots=True)
class Entry:
    """`result`: None where there is none yet, else with its beginning; number and request where they are known."""

    key: str
    result: Bytes | None
    head: bytes = b""
    number: int | None = None
    request: Bytes | None = None
    custom_id: str = ""  # of one without a result


class Source(Protocol):
    """Lines in input order. Both raise Gone, also where there is no line with this key."""

    def forwards(self, key: str) -> Iterator[Entry]:
        """From this line on; "": from the first."""

    def backwards(self, key: str) -> Iterator[Entry]:
        """The lines before this one, the nearest first."""


def blob_of_input(batch: Batch) -> str:
    """Raises Gone also while its bytes are still there, but deleted by who they belong to."""
    source = batch.source
    return source.blob if source is not None and source.deleted_at is None else _blob(batch, batch.input_file_id)


def blob_of_results(batch: Batch, letter: str) -> str:
    """Of output ("o") or error file ("e"); empty: there were no such lines. Raises Gone."""
    public_id = batch.output_file_id if letter == "o" else batch.error_file_id
    return _blob(batch, public_id) if public_id else ""


def _blob(batch: Batch, public_id: str) -> str:
    file = StoredFile.objects.visible().filter(public_id=public_id, account=batch.account_id).first()
    if file is None:
        raise Gone
    return file.blob


@contextmanager
def opened(blob: str, offset: int = 0) -> Iterator[BinaryIO]:
    """At the beginning of a line, or the end of the file. Raises Gone."""
    try:
        file = blobs.look(blob)
    except FileNotFoundError:
        raise Gone from None
    with file:
        if not heads.is_start(file, offset):
            raise Gone
        file.seek(offset)
        yield file
