"""Request lines whose arrays, objects and texts would take twenty times their bytes in memory: six megabytes hold two
million empty arrays. Such a line is judged by its known members alone, and nothing is built of the others."""

import re
from collections.abc import Iterator

import msgspec

from batches_app.request_members import BODY_MEMBERS, LINE_MEMBERS, InvalidLineError, Members, read_exactly

LIGHT_BYTES = 1 << 20  # a line of no more cannot be heavy
MOST_VALUES = 300_000  # arrays, objects and texts in a known member
MANY_ITEMS = 300_000  # of whatever kind: as many numbers are ten megabytes


class TooManyValues(Exception):
    """The argument is the path of the member that holds them."""


def is_heavy(raw: bytes) -> bool:
    return len(raw) > LIGHT_BYTES and (_has_many_values(raw) or raw.count(b",") > MANY_ITEMS)


def read_heavy(raw: bytes) -> Members:
    """As `read_exactly`. Raises TooManyValues for a known member that is heavy itself."""
    try:
        raw.decode()
        members = _known(raw, LINE_MEMBERS)
        if members.get("body", b"").startswith(b"{"):
            members["body"] = _object(_light(_known(members["body"], BODY_MEMBERS), "body."))
    except UnicodeDecodeError as error:
        raise InvalidLineError(f"Invalid UTF-8 at byte {error.start + 1} of the line.") from None
    except msgspec.ValidationError:
        raise InvalidLineError("Expected a JSON object.") from None
    except msgspec.DecodeError as error:
        raise InvalidLineError(f"Invalid JSON: {error}.") from None
    thin = _object(_light(members, ""))
    _refuse_repeated(raw)
    return read_exactly(thin)


_STRING = re.compile(rb'"([^"\\]*+(?:\\.[^"\\]*+)*+)"(\s*:)?')


def _has_many_values(raw: bytes) -> bool:
    # The first count is never too low, and costs little: it takes what is within texts for values too.
    return _opened(raw) + raw.count(b'"') // 2 > MOST_VALUES and _exceeds(raw, MOST_VALUES)


def _exceeds(raw: bytes, most: int) -> bool:
    values = end = 0
    for text in _STRING.finditer(raw):
        values += 1 + _opened(raw[end : text.start()])
        end = text.end()
        if values > most:
            return True
    return values + _opened(raw[end:]) > most


def _opened(raw: bytes) -> int:
    return raw.count(b"[") + raw.count(b"{")


def _light(members: dict[str, bytes], where: str) -> dict[str, bytes]:
    for name, value in members.items():
        if _has_many_values(value):
            raise TooManyValues(where + name)
    return {name: _without_tokens(value) for name, value in members.items()}


class _Array(msgspec.Struct, array_like=True, gc=False):
    """Of any length: its items are skipped."""


_decode_arrays = msgspec.json.Decoder(list[_Array]).decode
_TOKENS = re.compile(rb"\[\s*[-0-9]")


def _without_tokens(value: bytes) -> bytes:
    """As many inputs, each of which is an array of tokens, as before: their number is all that matters."""
    if value.count(b",") <= MANY_ITEMS:
        return value
    if _TOKENS.match(value):
        return b"[0]"
    try:
        return b"[" + b",".join([b"[]"] * len(_decode_arrays(value))) + b"]"
    except msgspec.ValidationError:
        return value


def _decoder(names: tuple[str, ...]) -> msgspec.json.Decoder[msgspec.Struct]:
    members = [(name, msgspec.Raw, msgspec.Raw()) for name in names]
    return msgspec.json.Decoder(msgspec.defstruct("Known", members, gc=False))


_DECODERS: dict[tuple[str, ...], msgspec.json.Decoder[msgspec.Struct]] = {
    names: _decoder(names) for names in (LINE_MEMBERS, BODY_MEMBERS)
}


def _known(raw: bytes, names: tuple[str, ...]) -> dict[str, bytes]:
    found = _DECODERS[names].decode(raw)
    values = {name: bytes(getattr(found, name)).strip() for name in names}
    return {name: value for name, value in values.items() if value}


def _object(members: dict[str, bytes]) -> bytes:
    return b"{" + b",".join(b'"%b":%b' % (name.encode(), value) for name, value in members.items()) + b"}"


def _refuse_repeated(raw: bytes) -> None:
    seen, parent = set(), ""
    for depth, name in _keys(raw):
        parent = name if depth == 1 else parent
        matters = name in LINE_MEMBERS if depth == 1 else parent == "body" and name in BODY_MEMBERS
        if matters and (depth, name) in seen:
            raise InvalidLineError(f"Duplicate key '{name}': it may appear only once.")
        seen.add((depth, name) if matters else (0, ""))


def _keys(raw: bytes) -> Iterator[tuple[int, str]]:
    """Of the line itself (1) and of the objects in it (2), in their order."""
    depth = end = 0
    for found in _STRING.finditer(raw):
        between, end = raw[end : found.start()], found.end()
        depth += _opened(between) - between.count(b"]") - between.count(b"}")
        if found[2] and depth <= 2:
            yield depth, msgspec.json.decode(b'"%b"' % found[1], type=str)
