"""The lines of a batch, for who looks at them: what was asked, and what came of it, wherever that lies at the moment.

While a batch runs, results lie in its checkpoints, which know lines by number; when it has ended, in the output and the
error file, in input order. A line's `key` says where: l<number>, o<offset> or e<offset>. Nothing here reads more than a
page of lines at once, nor longer than an operator waits: a reading that is cut off says so.
"""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import BinaryIO, cast

import msgspec
from django.conf import settings

from batches_app import error_groups, results
from batches_app.custom_ids import custom_id_of, spellings
from batches_app.models import Batch
from batches_app.places import BlobReader, of_batch
from batches_app.states import TERMINAL
from files_app import blobs, jsonl
from files_app.models import StoredFile

PAGE = 50
SECONDS = 1.0
HEAD_BYTES = 64 * 1024  # of a line in the list: enough for its id and what an error says
CHUNK_BYTES = 256 * 1024

_HEAD = re.compile(
    rb'\{"id": "[^"]*", "custom_id": ("[^"\\]*(?:\\.[^"\\]*)*"), "response": (?:null|\{"status_code": (\d+))'
)
_KEY = re.compile(r"([loe])(\d{1,15})")


class Gone(Exception):
    """The file that it was in was deleted, or the batch has ended since: look for it anew."""


@dataclass(frozen=True, slots=True)
class Found:
    """A line in a list. `status`: of the upstream's answer; `code`: of an error line; `number`: where it is known."""

    key: str
    custom_id: str
    status: int | None
    code: str
    size: int
    number: int | None = None


@dataclass(frozen=True, slots=True)
class Listed:
    """`next`: the key to go on from; `is_cut_off`: because of the time, not because the page is full."""

    lines: list[Found]
    next: str = ""
    is_cut_off: bool = False


@dataclass(frozen=True, slots=True)
class Bytes:
    """Where a line is, to be read as far as somebody wants it."""

    blob: str
    offset: int
    size: int

    def read(self, most: int) -> bytes:
        """Raises Gone."""
        with self.open() as file:
            return file.read(min(most, self.size))

    def open(self) -> BinaryIO:
        """At its beginning; its end is the reader's to heed. Raises Gone."""
        file = _open(self.blob)
        file.seek(self.offset)
        return file


def listed(batch: Batch, kind: str, code: str, after: str) -> Listed:
    """The next lines of `kind` (succeeded, failed), of one error code or (empty) of all. Raises Gone."""
    chosen = _Chosen(batch, code if kind == "failed" else "")
    lines = _ended(batch, kind, after) if batch.status in TERMINAL else _running(batch, kind, after)
    found: list[Found] = []
    ends, next_key = time.monotonic() + SECONDS, ""
    for key, place, line in lines:
        next_key = key
        if len(found) == PAGE or time.monotonic() > ends:
            return Listed(found, next_key, is_cut_off=len(found) < PAGE)
        if chosen(line):
            found.append(_told(key, place, line))
    return Listed(found)


class _Chosen:
    """By error code, as the groups of the batch have it."""

    def __init__(self, batch: Batch, code: str) -> None:
        self._code = code
        self._codes = set(batch.error_groups.values_list("code", flat=True)) if code else set()

    def __call__(self, head: bytes) -> bool:
        return not self._code or error_groups.group_of(self._codes, results.error_of(head)[0]) == self._code


def _told(key: str, place: Bytes, head: bytes) -> Found:
    number = int(key[1:]) if key.startswith("l") else None
    return Found(key, *told(head), place.size, number)


def told(head: bytes) -> tuple[str, int | None, str]:
    """Of a result line, by its beginning: custom_id, status of the upstream's answer, code of its error."""
    found = _HEAD.match(head)
    if found is None:
        return "", None, ""
    status = int(found[2]) if found[2] else None
    is_success = status is not None and 200 <= status < 300
    code = "" if is_success else results.error_of(head)[0]
    return msgspec.json.decode(found[1], type=str), status, code


def _running(batch: Batch, kind: str, after: str) -> Iterator[tuple[str, Bytes, bytes]]:
    first = _position(after, "l") if after else 0
    wanted = (place for place in of_batch(batch) if place.failed == (kind == "failed") and place.line >= first)
    with BlobReader() as reader:
        for place in wanted:
            where = Bytes(place.blob, place.offset, place.length)
            try:
                head = reader.read(place._replace(length=min(place.length, HEAD_BYTES)))
            except FileNotFoundError:
                raise Gone from None
            yield f"l{place.line}", where, head


def _ended(batch: Batch, kind: str, after: str) -> Iterator[tuple[str, Bytes, bytes]]:
    letter = "e" if kind == "failed" else "o"
    start = _position(after, letter) if after else 0
    public_id = batch.error_file_id if kind == "failed" else batch.output_file_id
    if not public_id:
        return
    blob = _blob(public_id)
    with _open(blob) as file:
        for offset, size, head in _heads(file, start):
            yield f"{letter}{offset}", Bytes(blob, offset, size), head


def _heads(file: BinaryIO, start: int) -> Iterator[tuple[int, int, bytes]]:
    """Offset, size and beginning of each line from `start` on, without holding more than the beginning of any."""
    file.seek(start)
    offset, size, head = start, 0, b""
    while chunk := file.read(CHUNK_BYTES):
        at = 0
        while (end := chunk.find(b"\n", at)) >= 0:
            head += chunk[at : min(end, at + HEAD_BYTES - len(head))]
            size += end + 1 - at
            yield offset, size, head
            offset, size, head, at = offset + size, 0, b"", end + 1
        head += chunk[at : at + HEAD_BYTES - len(head)]
        size += len(chunk) - at
    if size:
        yield offset, size, head


def _position(key: str, letters: str) -> int:
    found = _KEY.fullmatch(key)
    if found is None or found[1] not in letters:
        raise Gone
    return int(found[2])


def _blob(public_id: str) -> str:
    file = StoredFile.objects.filter(public_id=public_id).first()
    if file is None:
        raise Gone
    return file.blob


def _open(blob: str) -> BinaryIO:
    try:
        return cast(BinaryIO, blobs.read(blob))
    except FileNotFoundError:
        raise Gone from None


# One line


def result(batch: Batch, key: str) -> Bytes | None:
    """Where its result is; None: it has none yet. Raises Gone."""
    position = _position(key, "loe")
    if key.startswith("l"):
        if batch.status in TERMINAL:
            raise Gone
        place = next((place for place in of_batch(batch) if place.line == position), None)
        return place and Bytes(place.blob, place.offset, place.length)
    public_id = batch.error_file_id if key.startswith("e") else batch.output_file_id
    if not public_id:
        raise Gone
    blob = _blob(public_id)
    with _open(blob) as file:
        if position:
            file.seek(position - 1)
            if file.read(1) != b"\n":
                raise Gone  # the middle of a line
        line = next(_heads(file, position), None)
    if line is None:
        raise Gone
    return Bytes(blob, line[0], line[1])


def request(batch: Batch, custom_id: str, key: str = "") -> "Asked | None":
    """By the line's number while the batch runs, else by custom_id. None: the input file is gone. Raises CutOff."""
    blob = _input(batch)
    if blob is None:
        return None
    if key.startswith("l"):
        return _numbered(batch, blob, _position(key, "l"))
    try:
        with _open(blob) as file:
            return _asked(file, blob, custom_id)
    except Gone:
        return None


def _numbered(batch: Batch, blob: str, number: int) -> "Asked":
    shard = batch.shards.filter(first_line__lte=number, last_line__gte=number).first()
    if shard is None:
        return Asked()
    file = BytesIO(Bytes(blob, shard.offset, shard.size).read(shard.size))
    for line in jsonl.read_lines(file, max_bytes=settings.MAX_LINE_BYTES, first_number=shard.first_line):
        if line.number == number:
            return Asked(number, Bytes(blob, shard.offset + line.offset, line.end - line.offset))
    return Asked()


@dataclass(frozen=True, slots=True)
class Asked:
    """A request line of the input file; `place` is None where no line has this custom_id."""

    number: int = 0
    place: Bytes | None = None


class CutOff(Exception):
    """The file is too large to be looked through while somebody waits."""


def _input(batch: Batch) -> str | None:
    if batch.source is not None:
        return batch.source.blob
    file = StoredFile.objects.filter(public_id=batch.input_file_id, account=batch.account_id).first()
    return file.blob if file else None


def _asked(file: BinaryIO, blob: str, custom_id: str) -> Asked:
    needles = spellings(custom_id)
    ends = time.monotonic() + SECONDS
    for line in jsonl.read_lines(file, max_bytes=settings.MAX_LINE_BYTES):
        if any(needle in line.raw for needle in needles) and custom_id_of(line.raw) == custom_id:
            return Asked(line.number, Bytes(blob, line.offset, line.end - line.offset))
        if time.monotonic() > ends:
            raise CutOff
    return Asked()


def find(batch: Batch, custom_id: str) -> str | None:
    """The key of the line with this custom_id; None: there is none. Raises Gone, CutOff."""
    if batch.status not in TERMINAL:
        asked = request(batch, custom_id)
        if asked is None:
            raise Gone
        return f"l{asked.number}" if asked.place else None
    needle = b'"custom_id": %b, "response": ' % msgspec.json.encode(custom_id)
    ends = time.monotonic() + SECONDS
    for letter, public_id in (("o", batch.output_file_id), ("e", batch.error_file_id)):
        if public_id and (key := _in_file(_blob(public_id), letter, needle, ends)):
            return key
    return None


def _in_file(blob: str, letter: str, needle: bytes, ends: float) -> str | None:
    with _open(blob) as file:
        for offset, _size, head in _heads(file, 0):
            if needle in head[: len(needle) + 100]:
                return f"{letter}{offset}"
            if time.monotonic() > ends:
                raise CutOff
    return None
