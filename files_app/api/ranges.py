"""Part of a file, as `Range` asks for it (RFC 9110, section 14): one range of bytes."""

import re

from config.api.errors import ApiError, BadRequest

RANGE = re.compile(r"bytes=([0-9]*)-([0-9]*)")
DIGITS = 18


class Unsatisfiable(ApiError):
    status = 416

    def __init__(self, size: int) -> None:
        super().__init__("The requested range is not within the file.", headers={"Content-Range": f"bytes */{size}"})


def requested_range(header: str, size: int) -> range | None:
    """None, and the whole file, for a header that is no single range of bytes: so says the RFC."""
    found = RANGE.fullmatch(header.replace(" ", ""))
    if not found or header.strip() == "bytes=-":
        return None
    first, last = found.groups()
    if max(len(first), len(last)) > DIGITS:
        raise BadRequest("The numbers of the Range header are out of range.")  # C6
    if not first:
        start, stop = max(0, size - int(last)), size
    else:
        start, stop = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < int(first):
            return None
    if start >= size or start >= stop:
        raise Unsatisfiable(size)
    return range(start, stop)
