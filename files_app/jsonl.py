"""Reading JSON lines from a binary file, however long the file or one of its lines."""

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

BOM = b"\xef\xbb\xbf"
CHUNK_BYTES = 1 << 18


class Line(NamedTuple):
    """A line that is not blank. Offsets count bytes from where reading began."""

    number: int  # physical line, from 1
    offset: int  # of its first byte, a BOM included
    raw: bytes  # without BOM and line end; empty when longer than allowed
    size: int  # in bytes, without BOM and line end
    end: int  # offset of the byte after its line end


def read_lines(file: BinaryIO, *, max_bytes: int, first_number: int = 1) -> Iterator[Line]:
    r"""Yield the lines of `file` that are not blank, split at \n bytes only.

    Tolerates a BOM before line 1, CRLF, blank lines (counted, not yielded) and a missing last line end. A line of
    more than `max_bytes` bytes is read through in pieces and yielded once, with its true size and an empty `raw`.
    """
    chunk = _first_chunk(file)
    start, position = 0, 0
    if first_number == 1 and chunk.startswith(BOM):
        chunk, position = chunk[len(BOM) :], len(BOM)
    number = first_number
    carry = _Carry(max_bytes)
    while chunk:
        pieces = chunk.split(b"\n")
        rest = pieces.pop()
        for piece in pieces:
            raw, length = carry.take(piece) if carry.length else (piece, len(piece))
            position += length + 1
            if line := _line(number, start, raw, length, position, max_bytes):
                yield line
            start = position
            number += 1
        carry.add(rest)
        chunk = file.read(CHUNK_BYTES)
    if carry.length:
        raw, length = carry.take(b"")
        if line := _line(number, start, raw, length, position + length, max_bytes):
            yield line


def _first_chunk(file: BinaryIO) -> bytes:
    """More bytes than a BOM has, unless the file ends: pipes and sockets read short, and no bytes mean the end."""
    chunk = file.read(CHUNK_BYTES)
    while 0 < len(chunk) <= len(BOM) and (more := file.read(CHUNK_BYTES)):
        chunk += more
    return chunk


def _line(number: int, offset: int, raw: bytes, length: int, end: int, max_bytes: int) -> Line | None:
    """None for a blank line. `raw` and `length` are up to the \\n; an oversized `raw` may be what _Carry kept of it."""
    if raw.endswith(b"\r"):
        raw, length = raw[:-1], length - 1
    if not raw or raw.isspace():
        return None
    return Line(number, offset, raw if length <= max_bytes else b"", length, end)


class _Carry:
    """Puts a line together that came in several pieces, holding no more of it than a line may have."""

    __slots__ = ("_limit", "_pieces", "length")

    def __init__(self, max_bytes: int) -> None:
        self._limit = max_bytes + 1  # a \r may follow
        self._reset()

    def _reset(self) -> None:
        self.length = 0
        self._pieces: list[bytes] = []

    def add(self, piece: bytes) -> None:
        self.length += len(piece)
        if self.length <= self._limit:
            self._pieces.append(piece)
            return
        # Of a line that is too long, two bytes tell the rest: one that is not blank, if any, and the last.
        kept = b"".join(self._pieces)
        self._pieces = [(kept.strip()[:1] or piece.strip()[:1]) + (piece or kept)[-1:]]

    def take(self, last: bytes) -> tuple[bytes, int]:
        """The whole line with its length; of a line that is too long, two bytes with the line's length."""
        self.add(last)
        raw, length = b"".join(self._pieces), self.length
        self._reset()
        return raw, length
