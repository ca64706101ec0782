"""The lines of a batch that runs: requests by its shards, results by its checkpoints. Keys: l<number>."""

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from functools import cached_property
from io import BytesIO

from django.conf import settings
from django.db.models import QuerySet

from batches_app.line_entries import HEAD_BYTES, Bytes, Entry, Gone, Kind, blob_of_input
from batches_app.models import Batch, Shard
from batches_app.places import BlobReader, Place, of_batch
from batches_app.request_parsing import read_custom_id
from files_app import jsonl


def key_of(number: int) -> str:
    return f"l{number}"


def number_of(key: str) -> int:
    found = re.fullmatch(r"l([1-9]\d{0,8})", key, re.ASCII)
    if found is None:
        raise Gone
    return int(found[1])


class Results:
    """Those that have come so far, of one kind."""

    def __init__(self, batch: Batch, kind: Kind) -> None:
        self._batch = batch
        self._failed = kind == Kind.FAILED

    def forwards(self, key: str) -> Iterator[Entry]:
        return _read(self._places(number_of(key) if key else 1))

    def backwards(self, key: str) -> Iterator[Entry]:
        places = self._places(1)
        return _read(reversed(places[: bisect_left(places, number_of(key), key=lambda place: place.line)]))

    def _places(self, first: int) -> list[Place]:
        return [place for place in of_batch(self._batch, first) if place.failed == self._failed]


def _read(places: Iterable[Place]) -> Iterator[Entry]:
    with BlobReader() as reader:
        for place in places:
            yield Entry(key_of(place.line), _bytes(place), _head(reader, place), place.line)


def _bytes(place: Place) -> Bytes:
    return Bytes(place.blob, place.offset, place.length)


def _head(reader: BlobReader, place: Place) -> bytes:
    try:
        return reader.read(place._replace(length=min(place.length, HEAD_BYTES)))
    except FileNotFoundError:  # the batch has just ended
        raise Gone from None


class Requests:
    """All lines of the input with what has come of each, or those of which nothing has come yet."""

    def __init__(self, batch: Batch, kind: Kind) -> None:
        self._batch = batch
        self._only_waiting = kind == Kind.WAITING
        self._input = blob_of_input(batch)

    def forwards(self, key: str) -> Iterator[Entry]:
        first = number_of(key) if key else 1
        for shard in self._shards().filter(last_line__gte=first):
            yield from self._read(shard, (line for line in self._lines(shard) if line.number >= first))

    def backwards(self, key: str) -> Iterator[Entry]:
        end = number_of(key)
        for shard in self._shards().filter(first_line__lt=end).reverse():
            yield from self._read(shard, reversed([line for line in self._lines(shard) if line.number < end]))

    def _shards(self) -> "QuerySet[Shard]":
        shards = self._batch.shards.order_by("first_line")
        return shards.exclude(state=Shard.State.DONE) if self._only_waiting else shards

    def _lines(self, shard: Shard) -> Iterator[jsonl.Line]:
        """With offsets in the file."""
        data = BytesIO(Bytes(self._input, shard.offset, shard.size).read(shard.size))
        for line in jsonl.read_lines(data, max_bytes=settings.MAX_LINE_BYTES, first_number=shard.first_line):
            yield line._replace(offset=shard.offset + line.offset, end=shard.offset + line.end)

    def _read(self, shard: Shard, lines: Iterable[jsonl.Line]) -> Iterator[Entry]:
        # Of all shards at once where a page may take many of them; else only of the few that it takes.
        places = self._all_places if self._only_waiting else _by_line(self._batch, shard.first_line, shard.last_line)
        with BlobReader() as reader:
            for line in lines:
                place = places.get(line.number)
                request = Bytes(self._input, line.offset, line.end - line.offset)
                if place is None:
                    custom_id = read_custom_id(line.raw)
                    yield Entry(key_of(line.number), None, b"", line.number, request, custom_id)
                elif not self._only_waiting:
                    yield Entry(key_of(line.number), _bytes(place), _head(reader, place), line.number, request)

    @cached_property
    def _all_places(self) -> dict[int, Place]:
        return _by_line(self._batch)


def _by_line(batch: Batch, first: int = 1, last: int | None = None) -> dict[int, Place]:
    return {place.line: place for place in of_batch(batch, first, last)}
