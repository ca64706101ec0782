"""Taking an accepted request line apart: what the upstream gets of it."""

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import msgspec

from files_app.jsonl import Line

# Where a stream tells its usage only when asked to.
USAGE_ON_REQUEST = frozenset({"/v1/chat/completions", "/v1/completions"})


class Request(NamedTuple):
    """One request; `number` is its line's, `body` JSON, `stream` whether it asks for server-sent events."""

    number: int
    custom_id: str
    body: bytes
    stream: bool


def parse_request(line: Line, *, upstream_model: str | None = None) -> Request:
    """The request of a line that the checker accepted; of any other line this may raise msgspec.MsgspecError.

    The body's bytes are the line's own. Only for `upstream_model`, or a stream whose usage has to be asked for, is it
    written anew, and then the other members keep their bytes and order.
    """
    try:
        return _parse(line, upstream_model)
    except RecursionError:
        # Depth counts from the bottom of the stack, and this one may be deeper than that of the validator, who
        # accepted the line. A new thread's is empty.
        with ThreadPoolExecutor(max_workers=1) as pool:
            return pool.submit(_parse, line, upstream_model).result()


def read_custom_id(raw: bytes) -> str:
    """Of a line that the checker accepted."""
    try:
        return _decode_id(raw).custom_id
    except RecursionError:  # as in parse_request
        with ThreadPoolExecutor(max_workers=1) as pool:
            return pool.submit(_decode_id, raw).result().custom_id


def body_size(raw: bytes) -> int:
    """The bytes of a line's body, which must be an object."""
    return len(bytes(_decode_body(raw).body))


class _BodyOnly(msgspec.Struct, gc=False):
    body: msgspec.Raw


class _IdOnly(msgspec.Struct, gc=False):
    custom_id: str


class _Line(msgspec.Struct, gc=False):
    custom_id: str
    url: str
    body: msgspec.Raw


class _Body(msgspec.Struct, gc=False):
    # Raw, so that a value that is neither true nor false goes to the upstream, which can say what is wrong with it.
    stream: msgspec.Raw = msgspec.Raw(b"false")


_TRUE = msgspec.Raw(b"true")
_NULL = msgspec.Raw(b"null")
_decode_body = msgspec.json.Decoder(_BodyOnly).decode
_decode_id = msgspec.json.Decoder(_IdOnly).decode
_decode_line = msgspec.json.Decoder(_Line).decode
_decode_stream = msgspec.json.Decoder(_Body).decode
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.encode


def _parse(line: Line, upstream_model: str | None) -> Request:
    parts = _decode_line(line.raw)
    body = bytes(parts.body)
    stream = _decode_stream(body).stream == _TRUE
    ask_for_usage = stream and parts.url in USAGE_ON_REQUEST
    if upstream_model is not None or ask_for_usage:
        body = _rewrite(body, upstream_model, ask_for_usage)
    return Request(line.number, parts.custom_id, body, stream)


def _rewrite(body: bytes, upstream_model: str | None, ask_for_usage: bool) -> bytes:
    members = _decode_members(body)
    if upstream_model is not None:
        members["model"] = msgspec.Raw(_encode(upstream_model))
    if ask_for_usage:
        members["stream_options"] = _with_usage(members.get("stream_options", _NULL))
    return _encode(members)


def _with_usage(options: msgspec.Raw) -> msgspec.Raw:
    try:
        members = {} if options == _NULL else _decode_members(options)
    except msgspec.ValidationError:
        return options  # not an object: the upstream's to refuse
    members["include_usage"] = _TRUE
    return msgspec.Raw(_encode(members))
