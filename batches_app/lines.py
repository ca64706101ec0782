"""The lines of a batch for who looks at them: what was asked, and what came of it. Nothing here reads more than a page
of lines, nor longer than somebody waits; what is cut off by that tells from where to go on."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

import msgspec
from django.conf import settings

from batches_app import error_groups, results
from batches_app.custom_ids import spellings
from batches_app.ended_lines import Merged, ResultFile, is_result_of
from batches_app.line_entries import Bytes, Entry, Gone, Kind, Source, blob_of_input, opened
from batches_app.models import Batch
from batches_app.request_parsing import read_custom_id
from batches_app.running_lines import Requests, Results, key_of, number_of
from batches_app.states import TERMINAL
from files_app import jsonl

__all__ = ["Asked", "Bytes", "CutOff", "Entry", "Found", "Gone", "Kind", "Listed"]

PAGE = 50
SECONDS = 1.0
NEAR_SECONDS = 0.2
MOST_TOLD = 1024 * 1024  # of an error: one that is longer says nothing short (results.error_of)

_TEXT = rb'("[^"\\]*(?:\\.[^"\\]*)*")'
_HEAD = re.compile(
    rb'\{"id": "[^"]*", "custom_id": %b, "response": (?:null|\{"status_code": (\d+), "request_id": %b)' % (_TEXT, _TEXT)
)
_KIND_OF = {"o": Kind.SUCCEEDED, "e": Kind.FAILED}


@dataclass(frozen=True, slots=True)
class Found:
    """What a line came to. `status` and `request_id`: of the upstream's answer; `code` and `message`: of an error."""

    key: str
    custom_id: str  # empty: too long to be shown
    number: int | None
    size: int | None  # None: no result yet
    status: int | None = None
    request_id: str = ""
    code: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Listed:
    """`next`: the key to go on from; `is_cut_off`: because of the time, not because the page is full."""

    lines: list[Found]
    next: str = ""
    is_cut_off: bool = False


class CutOff(Exception):
    """The time is over. `at`: from where to look on; `looked`: how many bytes of the file were looked through."""

    def __init__(self, at: str, looked: int) -> None:
        super().__init__(at)
        self.at, self.looked = at, looked


class _Clock:
    def __init__(self, seconds: float) -> None:
        self._ends = time.monotonic() + seconds

    @property
    def is_over(self) -> bool:
        return time.monotonic() > self._ends


def kind_of(key: str) -> Kind:
    """Of the list that a line is in, if nothing else is said."""
    return _KIND_OF.get(key[:1], Kind.ALL)


def listed(batch: Batch, kind: Kind, code: str, after: str) -> Listed:
    """The next lines of `kind`; of FAILED only those of one error code, unless it is empty. Raises Gone."""
    is_chosen, clock = _chooser(batch, kind, code), _Clock(SECONDS)
    found: list[Found] = []
    for entry in _source(batch, kind).forwards(after):
        # After one line at least: else the next page would be this one again.
        if len(found) == PAGE or (clock.is_over and entry.key != after):
            return Listed(found, entry.key, is_cut_off=len(found) < PAGE)
        if is_chosen(entry):
            found.append(told(entry))
    return Listed(found)


def neighbours(batch: Batch, key: str, kind: Kind, code: str) -> tuple[str, str]:
    """Keys of the lines before and after it in the list of `kind` and `code`. Empty: there is none, or none near.
    Raises Gone."""
    source, is_chosen = _source(batch, kind), _chooser(batch, kind, code)
    before = _nearest(source.backwards(key), is_chosen)
    return before, _nearest((entry for entry in source.forwards(key) if entry.key != key), is_chosen)


def _nearest(entries: Iterator[Entry], is_chosen: Callable[[Entry], bool]) -> str:
    clock = _Clock(NEAR_SECONDS)
    for entry in entries:
        if is_chosen(entry):
            return entry.key
        if clock.is_over:
            break
    return ""


def _source(batch: Batch, kind: Kind) -> Source:
    if batch.status not in TERMINAL:
        return Results(batch, kind) if kind in (Kind.SUCCEEDED, Kind.FAILED) else Requests(batch, kind)
    if kind == Kind.WAITING:
        raise Gone
    return Merged(batch) if kind == Kind.ALL else ResultFile(batch, "o" if kind == Kind.SUCCEEDED else "e")


def _chooser(batch: Batch, kind: Kind, code: str) -> Callable[[Entry], bool]:
    """By error code, as the groups of the batch have it."""
    if kind != Kind.FAILED or not code:
        return lambda entry: True
    codes = set(batch.error_groups.values_list("code", flat=True))
    return lambda entry: error_groups.group_of(codes, told(entry).code) == code


def told(entry: Entry) -> Found:
    if entry.result is None:
        return Found(entry.key, entry.custom_id, entry.number, None)
    custom_id, status, request_id = _of_head(entry.head)
    is_success = status is not None and 200 <= status < 300
    code, message = ("", "") if is_success else _error(entry.result, entry.head, status)
    return Found(entry.key, custom_id, entry.number, entry.result.size, status, request_id, code, message)


def _of_head(head: bytes) -> tuple[str, int | None, str]:
    found = _HEAD.match(head)
    if found is None:
        return "", None, ""
    decode = msgspec.json.Decoder(str).decode
    return decode(found[1]), int(found[2]) if found[2] else None, decode(found[3]) if found[3] else ""


def _error(place: Bytes, head: bytes, status: int | None) -> tuple[str, str]:
    if len(head) == place.size:
        return results.error_of(head)
    if place.size <= MOST_TOLD or status is None:
        return results.error_of(place.read(place.size))
    return f"http_{status}", head.partition(b'"body": ')[2].decode(errors="replace")


# One line


def line(batch: Batch, key: str) -> Entry:
    """Raises Gone."""
    # Without its input a running batch has no list of all lines, but of results.
    kinds = [kind_of(key)] if batch.status in TERMINAL else [Kind.ALL, Kind.SUCCEEDED, Kind.FAILED]
    for kind in kinds:
        with suppress(Gone):
            entry = next(_source(batch, kind).forwards(key), None)
            if entry is not None and entry.key == key:
                return entry
    raise Gone


def moved(batch: Batch, key: str) -> str:
    """The key, now that the batch has ended, of a line that had this one while it ran. Raises Gone."""
    number, clock = number_of(key), _Clock(SECONDS)
    if batch.status in TERMINAL:
        for entry in Merged(batch).forwards(""):
            if entry.number == number:
                return entry.key
            if clock.is_over:
                break
    raise Gone


@dataclass(frozen=True, slots=True)
class Asked:
    """A request line of the input file. `at`: where it is, as `request` takes it."""

    number: int
    place: Bytes
    at: str


def request(batch: Batch, entry: Entry, start: str = "") -> Asked | None:
    """What the line is the result of; the input is looked through for it from `start` on. None: not there. Raises
    Gone, CutOff."""
    if entry.request is not None and entry.number is not None:
        return Asked(entry.number, entry.request, "")
    custom_id = told(entry).custom_id
    return _search(batch, custom_id, start) if custom_id else None


def find(batch: Batch, custom_id: str, start: str = "") -> str | None:
    """The key of the line with this custom_id. None: there is none. Raises Gone, CutOff."""
    if batch.status not in TERMINAL:
        asked = _search(batch, custom_id, start)
        return key_of(asked.number) if asked else None
    gone: Gone | None = None
    for letter in "oe":
        try:
            file = ResultFile(batch, letter)
            if letter == "o" and start.startswith("e"):
                continue  # looked through already
            if key := _find_in(file, custom_id, start if start.startswith(letter) else ""):
                return key
        except Gone as error:
            gone = error  # which the other file may be without
    if gone:
        raise gone
    return None


def _find_in(file: ResultFile, custom_id: str, start: str) -> str:
    wanted, clock = msgspec.json.encode(custom_id), _Clock(SECONDS)
    for entry in file.forwards(start):
        if is_result_of(wanted, entry.head):
            return entry.key
        if clock.is_over and entry.key != start:
            raise CutOff(entry.key, int(entry.key[1:]))
    return ""


def _search(batch: Batch, custom_id: str, start: str) -> Asked | None:
    number, offset = _start(start)
    blob, needles, clock = blob_of_input(batch), spellings(custom_id), _Clock(SECONDS)
    with opened(blob, offset) as file:
        for line in jsonl.read_lines(file, max_bytes=settings.MAX_LINE_BYTES, first_number=number):
            at = f"{line.number}-{offset + line.offset}"
            if any(needle in line.raw for needle in needles) and _custom_id(line.raw) == custom_id:
                return Asked(line.number, Bytes(blob, offset + line.offset, line.end - line.offset), at)
            if clock.is_over and at != start:
                raise CutOff(at, offset + line.offset)
    return None


def _custom_id(line: bytes) -> str | None:
    try:
        return read_custom_id(line)
    except msgspec.MsgspecError:  # of an input file that did not pass validation
        return None


def _start(text: str) -> tuple[int, int]:
    if not text:
        return 1, 0
    found = re.fullmatch(r"([1-9]\d{0,9})-(\d{1,15})", text, re.ASCII)
    if found is None:
        raise Gone
    return int(found[1]), int(found[2])
