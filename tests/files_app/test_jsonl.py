"""Reading lines, whatever the file looks like."""

import io
import tracemalloc
from typing import BinaryIO

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from files_app.jsonl import BOM, CHUNK_BYTES, Line, read_lines


class ShortReads(io.RawIOBase):
    """Gives a few bytes at a time, as pipes and sockets may."""

    def __init__(self, data: bytes, step: int) -> None:
        self._file = io.BytesIO(data)
        self._step = step

    def read(self, size: int = -1) -> bytes:
        return self._file.read(self._step)


class Repeated(io.RawIOBase):
    """A file of `size` times the same byte, which exists nowhere."""

    def __init__(self, byte: bytes, size: int, end: bytes = b"") -> None:
        self._chunk = byte * CHUNK_BYTES
        self._left = size
        self._end = end

    def read(self, size: int = -1) -> bytes:
        if not self._left:
            end, self._end = self._end, b""
            return end
        taken = min(size, self._left, CHUNK_BYTES)
        self._left -= taken
        return self._chunk[:taken]


def lines_of(data: bytes | BinaryIO, max_bytes: int = 100, first_number: int = 1) -> list[Line]:
    file = io.BytesIO(data) if isinstance(data, bytes) else data
    return list(read_lines(file, max_bytes=max_bytes, first_number=first_number))


def plainly(data: bytes, max_bytes: int) -> list[Line]:
    """What read_lines does, in memory and step by step."""
    found, start = [], 0
    pieces = data.split(b"\n")
    for number, piece in enumerate(pieces, 1):
        end = min(start + len(piece) + 1, len(data))
        raw = piece.removeprefix(BOM) if number == 1 else piece
        raw = raw.removesuffix(b"\r")
        if raw.strip():
            found.append(Line(number, start, raw if len(raw) <= max_bytes else b"", len(raw), end))
        start = end
    return found


@given(
    pieces=st.lists(st.sampled_from([b"\n", b"\r\n", b"\r", b" ", BOM, b"a", b"bc", b"{}", b"x" * 9, b"\xe2\x80\xa8"])),
    max_bytes=st.integers(1, 12),
    step=st.integers(1, 9),
)
@example(pieces=[BOM, b"\n", BOM, b"a"], max_bytes=9, step=1)
@example(pieces=[b"x" * 9, b"\r\n", b"a"], max_bytes=8, step=2)
def test_lines_are_those_of_the_whole_file_however_it_is_read(pieces: list[bytes], max_bytes: int, step: int) -> None:
    """V1: split at newline bytes only; BOM, CRLF, blank lines and a missing last newline are tolerated."""
    data = b"".join(pieces)
    expected = plainly(data, max_bytes)
    assert lines_of(data, max_bytes) == expected
    assert lines_of(ShortReads(data, step), max_bytes) == expected  # type: ignore[arg-type]


def test_a_bom_is_dropped_and_belongs_to_the_first_line() -> None:
    """V1: a BOM is tolerated."""
    assert lines_of(BOM + b"{}\n[]") == [Line(1, 0, b"{}", 2, 6), Line(2, 6, b"[]", 2, 8)]


def test_a_bom_elsewhere_than_at_the_start_of_the_file_is_kept() -> None:
    """V1: only a file begins with a BOM, a shard of it does not."""
    assert lines_of(BOM + b"{}", first_number=7) == [Line(7, 0, BOM + b"{}", 5, 5)]


def test_blank_lines_are_counted_and_not_given() -> None:
    """V1: blank lines are tolerated, and the numbers of the others are those an editor shows."""
    assert [(line.number, line.raw) for line in lines_of(b"\n a\n \t\r\n\r\nb\n\n")] == [(2, b" a"), (5, b"b")]


def test_unicode_line_separators_end_no_line() -> None:
    """V1: U+2028, U+2029 and U+0085 inside a string are no line ends."""
    text = '"\u2028\u2029\x85\x0b\x0c"'.encode()
    assert [line.raw for line in lines_of(text + b"\n")] == [text]


@pytest.mark.parametrize("data", [b"", BOM, b"\n\n", b" \r\n", BOM + b"\r\n"])
def test_a_file_without_requests_has_no_lines(data: bytes) -> None:
    """V11: such a file is empty."""
    assert lines_of(data) == []


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_a_line_as_long_as_allowed_is_kept_and_one_byte_more_is_not(end: bytes) -> None:
    """V9: the limit is on the line without its line end."""
    longest, longer = b"x" * CHUNK_BYTES * 2, b"x" * (CHUNK_BYTES * 2 + 1)
    (kept,) = lines_of(longest + end, len(longest))
    assert (kept.raw, kept.size, kept.end) == (longest, len(longest), len(longest + end))
    (dropped,) = lines_of(longer + end, len(longest))
    assert (dropped.raw, dropped.size, dropped.end) == (b"", len(longer), len(longer + end))


def test_a_line_of_500_mb_is_never_held_in_memory() -> None:
    """V9: a file of one endless line costs no memory."""
    size = 500 * 1000 * 1000
    tracemalloc.start()
    (line,) = lines_of(Repeated(b"x", size, b"\r\n"), 1_000_000)  # type: ignore[arg-type]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert line == Line(1, 0, b"", size, size + 2)
    assert peak < 10_000_000


def test_an_endless_line_of_blanks_is_blank() -> None:
    """V1: blank lines are tolerated, however long."""
    file = Repeated(b" ", 5 * CHUNK_BYTES, b"\r\nx")
    assert lines_of(file, 9) == [Line(2, 5 * CHUNK_BYTES + 2, b"x", 1, 5 * CHUNK_BYTES + 3)]  # type: ignore[arg-type]
