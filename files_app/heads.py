"""The beginnings of a file's lines, forwards or backwards from one of them, however long the lines are."""

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

CHUNK_BYTES = 1 << 18


class Head(NamedTuple):
    offset: int
    size: int  # of the whole line, its line end included
    text: bytes  # as much of it as was asked for


def following(file: BinaryIO, start: int, most: int) -> Iterator[Head]:
    """From the line that begins at `start` on. Nothing else may move in the file meanwhile."""
    file.seek(start)
    offset, size, text = start, 0, b""
    while chunk := file.read(CHUNK_BYTES):
        at = 0
        while (end := chunk.find(b"\n", at)) >= 0:
            text += chunk[at : min(end + 1, at + most - len(text))]
            size += end + 1 - at
            yield Head(offset, size, text)
            offset, size, text, at = offset + size, 0, b"", end + 1
        text += chunk[at : at + most - len(text)]
        size += len(chunk) - at
    if size:
        yield Head(offset, size, text)


def preceding(file: BinaryIO, end: int, most: int) -> Iterator[Head]:
    """The lines before the one that begins at `end`, the nearest first."""
    for start, stop in _spans_before(file, end):
        file.seek(start)
        yield Head(start, stop - start, file.read(min(most, stop - start)))


def _spans_before(file: BinaryIO, end: int) -> Iterator[tuple[int, int]]:
    unread = stop = end
    while unread:
        begin = max(0, unread - CHUNK_BYTES)
        file.seek(begin)
        chunk = file.read(unread - begin)
        # The byte before `stop` is the line's own end.
        while (newline := chunk.rfind(b"\n", 0, max(0, stop - 1 - begin))) >= 0:
            yield begin + newline + 1, stop
            stop = begin + newline + 1
        unread = begin
    if stop:
        yield 0, stop


def is_start(file: BinaryIO, offset: int) -> bool:
    """Whether a line begins there, or the file ends after one."""
    if not offset:
        return True
    file.seek(offset - 1)
    return file.read(1) == b"\n"
