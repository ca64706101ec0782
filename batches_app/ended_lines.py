"""The lines of a batch that has ended: in its output and its error file, each in input order.

Keys: o<offset> and e<offset> in these; among all lines a<number>-<offsets in the input, the output and the error file>,
so that all three can be gone on with from any line, without a look at what is before it.
"""

import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import NamedTuple

import msgspec
from django.conf import settings

from batches_app.line_entries import HEAD_BYTES, Bytes, Entry, Gone, blob_of_input, blob_of_results, opened
from batches_app.models import Batch
from batches_app.request_parsing import read_custom_id
from files_app import heads, jsonl
from files_app.heads import Head

_BEFORE_ID = len('{"id": "00000000-0000-4000-8000-000000000000", "custom_id": ')
_MOST_LINE = settings.MAX_LINE_BYTES + len(jsonl.BOM) + len("\r\n")


def is_result_of(custom_id: bytes, head: bytes) -> bool:
    """`custom_id` in JSON. Of one that is longer than the head, as much as is in that."""
    return head[_BEFORE_ID : _BEFORE_ID + len(custom_id)] == custom_id[: max(0, len(head) - _BEFORE_ID)]


class ResultFile:
    def __init__(self, batch: Batch, letter: str) -> None:
        self._letter = letter
        self._blob = blob_of_results(batch, letter)

    def forwards(self, key: str) -> Iterator[Entry]:
        start = self._offset(key) if key else 0
        if self._blob:
            with opened(self._blob, start) as file:
                yield from map(self._entry, heads.following(file, start, HEAD_BYTES))

    def backwards(self, key: str) -> Iterator[Entry]:
        end = self._offset(key)
        if self._blob:
            with opened(self._blob, end) as file:
                yield from map(self._entry, heads.preceding(file, end, HEAD_BYTES))

    def _offset(self, key: str) -> int:
        found = re.fullmatch(rf"{self._letter}(\d{{1,15}})", key, re.ASCII)
        if found is None:
            raise Gone
        return int(found[1])

    def _entry(self, head: Head) -> Entry:
        return Entry(f"{self._letter}{head.offset}", Bytes(self._blob, head.offset, head.size), head.text)


class _Place(NamedTuple):
    """Where a line is in the input, and how far output and error file are there."""

    number: int = 1
    input: int = 0
    output: int = 0
    errors: int = 0

    @classmethod
    def of(cls, key: str) -> "_Place":
        found = re.fullmatch(r"a([1-9]\d{0,9})-(\d{1,15})-(\d{1,15})-(\d{1,15})", key, re.ASCII)
        if found is None:
            raise Gone
        return cls(*map(int, found.groups()))

    @property
    def key(self) -> str:
        return f"a{self.number}-{self.input}-{self.output}-{self.errors}"


@dataclass(slots=True)
class _Reading:
    """Of one result file, beside the input. `position`: up to where it has been read, in either direction."""

    blob: str
    lines: Iterator[Head]
    position: int
    is_backwards: bool
    _next: Head | None = None

    def __post_init__(self) -> None:
        self._next = next(self.lines, None)

    def take(self, custom_id: bytes) -> Head | None:
        """The next line, if it is the result of this request."""
        head = self._next
        if head is None or not is_result_of(custom_id, head.text):
            return None
        self.position = head.offset if self.is_backwards else head.offset + head.size
        self._next = next(self.lines, None)
        return head


class Merged:
    """All lines: each has its result in one of two files, whose order is that of the input."""

    def __init__(self, batch: Batch) -> None:
        self._input = blob_of_input(batch)
        self._output, self._errors = blob_of_results(batch, "o"), blob_of_results(batch, "e")

    def forwards(self, key: str) -> Iterator[Entry]:
        start = _Place.of(key) if key else _Place()
        with ExitStack() as stack:
            file = stack.enter_context(opened(self._input, start.input))
            output = self._reading(stack, self._output, start.output)
            errors = self._reading(stack, self._errors, start.errors)
            for line in jsonl.read_lines(file, max_bytes=settings.MAX_LINE_BYTES, first_number=start.number):
                here = _Place(line.number, start.input + line.offset, output.position, errors.position)
                yield self._entry(here, line.end - line.offset, _result_of(line.raw, output, errors))

    def backwards(self, key: str) -> Iterator[Entry]:
        end = _Place.of(key)
        with ExitStack() as stack:
            file = stack.enter_context(opened(self._input, end.input))
            output = self._reading(stack, self._output, end.output, is_backwards=True)
            errors = self._reading(stack, self._errors, end.errors, is_backwards=True)
            for passed, line in enumerate(heads.preceding(file, end.input, _MOST_LINE), 1):
                raw = line.text.removeprefix(jsonl.BOM)
                if raw and not raw.isspace():
                    entry = _result_of(raw, output, errors)
                    here = _Place(end.number - passed, line.offset, output.position, errors.position)
                    yield self._entry(here, line.size, entry)

    def _reading(self, stack: ExitStack, blob: str, at: int, *, is_backwards: bool = False) -> _Reading:
        if not blob:
            return _Reading(blob, iter(()), 0, is_backwards)
        file = stack.enter_context(opened(blob, at))
        lines = (heads.preceding if is_backwards else heads.following)(file, at, HEAD_BYTES)
        return _Reading(blob, lines, at, is_backwards)

    def _entry(self, here: _Place, size: int, found: "_Result | None") -> Entry:
        request = Bytes(self._input, here.input, size)
        if found is None:  # its file was cut, or belongs to something else
            return Entry(here.key, None, number=here.number, request=request)
        return Entry(here.key, found.place, found.head, here.number, request)


class _Result(NamedTuple):
    place: Bytes
    head: bytes


def _result_of(request: bytes, *readings: _Reading) -> _Result | None:
    try:
        custom_id = msgspec.json.encode(read_custom_id(request))
    except msgspec.MsgspecError:  # the middle of a line: a key that somebody made up
        raise Gone from None
    for reading in readings:
        if head := reading.take(custom_id):
            return _Result(Bytes(reading.blob, head.offset, head.size), head.text)
    return None
