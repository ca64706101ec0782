"""Where results lie while a batch runs: in its checkpoints, by line."""

from collections import OrderedDict
from typing import Any, NamedTuple

from batches_app import results
from batches_app.models import Batch
from files_app import blobs

OPEN_BLOBS = 16


class Place(NamedTuple):
    """Where the result of a line lies."""

    line: int
    failed: bool
    blob: str
    offset: int
    length: int


def of_batch(batch: Batch, first: int = 1, last: int | None = None) -> list[Place]:
    """Of every result so far, or of these lines', in input order: a few bytes for each, however long they are."""
    overlapping = batch.checkpoints.filter(last_line__gte=first)
    if last is not None:
        overlapping = overlapping.filter(first_line__lte=last)
    found = []
    for blob, index in overlapping.values_list("blob", "index"):
        offset = 0
        for entry in results.unpack_index(bytes(index)):
            if first <= entry.line and (last is None or entry.line <= last):
                found.append(Place(entry.line, entry.failed, blob, offset, entry.length))
            offset += entry.length
    return sorted(found)


class BlobReader:
    """Reads lines out of checkpoints, with a few of them open at a time: neighbours in the input came back in
    neighbouring checkpoints."""

    def __init__(self) -> None:
        self._open: OrderedDict[str, Any] = OrderedDict()

    def __enter__(self) -> "BlobReader":
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._open.values():
            file.close()

    def read(self, place: Place) -> bytes:
        file = self._open.get(place.blob)
        if file is None:
            file = self._open[place.blob] = blobs.read(place.blob)
            if len(self._open) > OPEN_BLOBS:
                self._open.popitem(last=False)[1].close()
        else:
            self._open.move_to_end(place.blob)
        file.seek(place.offset)
        data: bytes = file.read(place.length)
        if len(data) != place.length:
            raise OSError(f"{place.blob} is shorter than its index says.")
        return data
