"""What the first bytes of a request tell, before a thread is given to it."""

import re
from dataclasses import dataclass

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,15})[ \t]*\r\n", re.IGNORECASE)
_SENT_WHEN_READ = re.compile(rb"\r\n(?:transfer-encoding|expect):", re.IGNORECASE)
_AUTHORIZATION = re.compile(rb"\r\nauthorization:[ \t]*([^\r\n]*)", re.IGNORECASE)
_LONG_ANSWER = re.compile(rb"GET [^ ?]*/(?:files|content)[? ]")


@dataclass(frozen=True, slots=True)
class Head:
    caller: int  # stands for the key, and is none
    is_slow: bool  # how long it takes is for the client to say: a body that is not here, or an answer of megabytes
    is_worth_waiting: bool = False  # the body is small, and on its way


def read(found: bytes, most: int) -> Head | None:
    """`most`: bytes that can be waited for. None: the header is not here yet."""
    lines, end, body = found.partition(b"\r\n\r\n")
    if not end:
        return None
    lines += b"\r\n"
    key = _AUTHORIZATION.search(lines)
    length = _LENGTH.search(lines)
    left = int(length[1]) - len(body) if length else 0
    comes_when_read = _SENT_WHEN_READ.search(lines) is not None
    return Head(
        caller=hash(key[1]) if key else 0,
        is_slow=comes_when_read or left > 0 or _LONG_ANSWER.match(lines) is not None,
        is_worth_waiting=not comes_when_read and 0 < left <= most - len(found),
    )
