"""What the first bytes of a request tell, before a thread is given to it. gunicorn is the judge of what is valid; here
whatever is unusual is slow."""

import re
from dataclasses import dataclass

_TARGET = re.compile(rb"(?:\r\n)?([^ \r\n]+) ([^ \r\n]*)")
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([^\r\n]*?)[ \t]*\r\n", re.IGNORECASE)
_SENT_WHEN_READ = re.compile(rb"\r\n(?:transfer-encoding|expect):", re.IGNORECASE)
_KEY = re.compile(rb"\r\nauthorization:[ \t]*\S+[ \t]+(\S+)", re.IGNORECASE)
_LONG_ANSWER = re.compile(
    rb"/v1/(?:files(?:/[^/]*/content)?|batches|openapi\.json)|/docs|/console/files/[^/]*/download|/static/.*"
)
_MOST_DIGITS = 15


@dataclass(frozen=True, slots=True)
class Head:
    key: bytes | None  # where there is one for the API: two spellings of its header are one key
    is_slow: bool  # how long it takes is for the client to say: a body that is not here, or an answer of megabytes
    missing: int = 0  # bytes of a small body that is on its way
    has_body_to_come: bool = False


def read(found: bytes, most: int) -> Head | None:
    """`most`: bytes that can be waited for. None: the header is not here in whole."""
    lines, end, body = found.partition(b"\r\n\r\n")
    if not end:
        return None
    lines += b"\r\n"
    target = _TARGET.match(lines)
    method, path = (target[1], target[2].partition(b"?")[0]) if target else (b"", b"%")
    comes_when_read = _SENT_WHEN_READ.search(lines) is not None
    length = _length(lines)
    left = length - len(body) if length is not None else most
    has_body_to_come = comes_when_read or left > 0
    is_unusual = b"%" in path or b"#" in path
    has_long_answer = method == b"GET" and _LONG_ANSWER.fullmatch(path) is not None
    is_small = not comes_when_read and len(found) + left <= most
    return Head(
        key=key[1] if path.startswith(b"/v1/") and (key := _KEY.search(lines)) else None,
        is_slow=has_body_to_come or is_unusual or has_long_answer,
        missing=left if is_small and left > 0 else 0,
        has_body_to_come=has_body_to_come,
    )


def _length(lines: bytes) -> int | None:
    """None: not for us to read."""
    found = _LENGTH.search(lines)
    if found is None:
        return 0
    return int(found[1]) if found[1].isdigit() and len(found[1]) <= _MOST_DIGITS else None
