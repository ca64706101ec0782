"""JSON, indented for reading: token by token, as it was sent. To decode and encode it would change numbers and lose
members of the same name, and deep nesting would make a megabyte of a few bytes."""

import json
import re

DEEPEST = 20  # levels that are indented; what is deeper stands as far to the right as these
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"?|[\[\]{},:]|[^\s"\[\]{},:]+', re.DOTALL)


def indented(text: str, most: int) -> str:
    """At most `most` characters of it. What is not JSON, or cut off, comes out as far as it looks like it."""
    pieces: list[str] = []
    depth, size, before = 0, 0, ""
    for found in _TOKEN.finditer(text):
        token = _with_letters(found[0])
        depth -= token in ("}", "]")
        piece = _space(before, token, depth) + token
        depth += token in ("{", "[")
        pieces.append(piece)
        size, before = size + len(piece), token
        if size > most:
            break
    return "".join(pieces)[:most]


def _with_letters(token: str) -> str:
    r"""A string with what it says for \u4f60. Half of a pair, as \ud83d, says nothing, and stays."""
    if not token.startswith('"') or "\\u" not in token:
        return token
    try:
        text = json.dumps(json.loads(token), ensure_ascii=False)
        text.encode()
    except ValueError:  # or it was cut off
        return token
    return text


def _space(before: str, token: str, depth: int) -> str:
    if token in (",", ":") or not before:
        return ""
    if before in ("{", "["):
        return "" if token in ("}", "]") else _line(depth)
    return _line(depth) if before == "," or token in ("}", "]") else " "


def _line(depth: int) -> str:
    return "\n" + "  " * min(max(depth, 0), DEEPEST)
