"""Which batches hold a request with this custom_id. No row knows: their input files are read, one batch after the
other, for as long as an operator waits."""

import json
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import msgspec
from django.conf import settings

from batches_app.models import Batch
from files_app import blobs
from files_app.jsonl import BOM

SECONDS = 1.0
MOST_BYTES = 512 * 1024 * 1024  # the largest input file, and some
CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Search:
    found: list[Batch]
    looked: int  # how many of the batches, from the first on
    missing: int  # of them have no input file any more


class _Spent(Exception):
    pass


class _Budget:
    def __init__(self, seconds: float, size: int) -> None:
        self._ends = time.monotonic() + seconds
        self._left = size

    def take(self, size: int) -> None:
        self._left -= size
        if self._left < 0 or time.monotonic() > self._ends:
            raise _Spent


def search(
    batches: Sequence[Batch], custom_id: str, *, most: int, seconds: float = SECONDS, most_bytes: int = MOST_BYTES
) -> Search:
    """Until `most` are found, the batches end, or the time or the bytes do. `batches` with their `source`."""
    budget, spelt = _Budget(seconds, most_bytes), spellings(custom_id)
    found: list[Batch] = []
    looked = missing = 0
    for batch in batches:
        try:
            holds = _holds(batch, custom_id, spelt, budget)
        except _Spent:
            break
        looked += 1
        missing += holds is None
        if holds:
            found.append(batch)
            if len(found) == most:
                break
    return Search(found, looked, missing)


def spellings(custom_id: str) -> frozenset[bytes]:
    """As the encoders that are in use write it: non-ASCII escaped, in either case, or not; the slash escaped or not."""
    escaped, plain = json.dumps(custom_id), json.dumps(custom_id, ensure_ascii=False)
    upper = re.sub(r"(?<=\\u)[0-9a-f]{4}", lambda digits: digits[0].upper(), escaped)
    spelt = (escaped, upper, plain)
    return frozenset(text.encode() for spelling in spelt for text in (spelling, spelling.replace("/", r"\/")))


def _holds(batch: Batch, custom_id: str, spellings: frozenset[bytes], budget: _Budget) -> bool | None:
    """None: there is no file to look into."""
    budget.take(0)
    if batch.source is None:
        return None
    try:
        with blobs.look(batch.source.blob) as file:
            return any(_is_in(lines, custom_id, spellings) for lines in _whole_lines(file, budget))
    except FileNotFoundError:
        return None


def _whole_lines(file: BinaryIO, budget: _Budget) -> Iterator[bytes]:
    """The file in large pieces, each of whole lines: to look through these is many times faster than line by line."""
    begun = b""
    while chunk := file.read(CHUNK_BYTES):
        budget.take(len(chunk))
        ended, newline, rest = chunk.rpartition(b"\n")
        if newline:
            yield begun + ended
            begun = rest
        elif len(begun) <= settings.MAX_LINE_BYTES:
            begun += chunk  # of a longer line, which no batch may have, the beginning is enough
    yield begun


def _is_in(lines: bytes, custom_id: str, spellings: frozenset[bytes]) -> bool:
    return any(custom_id_of(line) == custom_id for spelling in spellings for line in _with(spelling, lines))


def _with(spelling: bytes, lines: bytes) -> Iterator[bytes]:
    at = lines.find(spelling)
    while at >= 0:
        start, end = lines.rfind(b"\n", 0, at) + 1, lines.find(b"\n", at)
        yield lines[start:] if end < 0 else lines[start:end]
        at = lines.find(spelling, end) if end >= 0 else -1


class _Line(msgspec.Struct, gc=False):
    custom_id: str


_decode = msgspec.json.Decoder(_Line).decode


def custom_id_of(line: bytes) -> str | None:
    try:
        return _decode(line.removeprefix(BOM)).custom_id
    except (msgspec.MsgspecError, RecursionError):
        return None
