"""Result lines, the usage that upstream answers tell, and the index of a checkpoint's lines."""

import json
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from struct import Struct
from typing import Annotated, Any, NamedTuple, NoReturn, TypeVar

import msgspec

from billing_app.pricing import Tokens

MAX_TOKENS = 100_000_000
MAX_TEXT_BYTES = 64 * 1024
MAX_CODE = 100
UNKNOWN = "unknown"
_MOST_READ = 4 * MAX_TEXT_BYTES  # of a failure's body: what is larger has no short reason

_T = TypeVar("_T")


class ErrorCode:
    """`error.code` of a result line whose request has no answer."""

    BATCH_CANCELLED = "batch_cancelled"
    BATCH_EXPIRED = "batch_expired"
    CONNECTION_ERROR = "connection_error"
    TIMEOUT = "timeout"
    INVALID_RESPONSE = "invalid_response"
    WORKER_CRASH = "worker_crash"


@dataclass(slots=True)
class Outcome:
    """What became of one request: an answer (`status_code`, `body`), or an `error_code` where there is none to show."""

    status_code: int | None
    request_id: str | None
    body: bytes
    error_code: str | None = None
    error_message: str | None = None

    @property
    def succeeded(self) -> bool:
        return self.error_code is None and self.status_code is not None and 200 <= self.status_code < 300


def result_line(custom_id: str, outcome: Outcome) -> bytes:
    """The line of the output or error file, its line end included (R1, R3). The body of a success must be usable."""
    if outcome.error_code is not None or outcome.status_code is None:
        error = {"code": outcome.error_code or ErrorCode.INVALID_RESPONSE, "message": outcome.error_message or ""}
        return b'{"id": "%b", "custom_id": %b, "response": null, "error": {"code": %b, "message": %b}}\n' % (
            _uuid4(),
            _encode_text(custom_id),
            _encode_text(error["code"]),
            _encode_text(error["message"]),
        )
    body = outcome.body
    if not outcome.succeeded and not _is_json(body):
        body = _encode_text(body[:MAX_TEXT_BYTES].decode(errors="replace"))
    elif b"\n" in body or b"\r" in body:
        # Valid JSON has raw line breaks only between tokens, and tokens need no space between them. To decode and
        # encode it would change floats and big integers.
        body = body.translate(None, b"\r\n")
    return (
        b'{"id": "%b", "custom_id": %b, "response": {"status_code": %d, "request_id": %b, "body": %b}, "error": null}\n'
        % (
            _uuid4(),
            _encode_text(custom_id),
            outcome.status_code,
            b'"%b"' % _uuid4() if outcome.request_id is None else _encode_text(outcome.request_id),
            body,
        )
    )


def error_of(line: bytes) -> tuple[str, str]:
    """Code and message of an error line: those of `error`, or the status with what the upstream's body says of it,
    such as "http_400 context_length_exceeded". Both may be stored: no NUL, no half of a surrogate pair."""
    parts = _LINE.fullmatch(line)
    if parts is None:  # not of `result_line`; to fail would lose a result for the sake of its label
        return UNKNOWN, _storable(line[:MAX_TEXT_BYTES].decode(errors="replace"))
    if parts["error"]:
        error = msgspec.json.decode(parts["error"])
        return _storable(error["code"])[:MAX_CODE], _storable(error["message"])
    status = parts["status"].decode()
    code, message = _told_by(parts["body"])
    named = _PLAIN_CODE.fullmatch(code) and code != status
    return f"http_{status} {code}" if named else f"http_{status}", _storable(message)


def custom_id_of(line: bytes) -> str:
    """Of any line of `result_line`."""
    parts = _LINE.fullmatch(line)
    return _storable(msgspec.json.decode(parts["custom_id"], type=str)) if parts else ""


_STRING = rb'"[^"\\]*(?:\\.[^"\\]*)*"'
# Not decoded as a whole: a body that just so could be read may be nested too deeply within the line.
_LINE = re.compile(
    rb'\{"id": %b, "custom_id": (?P<custom_id>%b), "response": (?:null, "error": (?P<error>\{.*\})'
    rb'|\{"status_code": (?P<status>\d+), "request_id": %b, "body": (?P<body>.*)\}, "error": null)\}\n?'
    % (_STRING, _STRING, _STRING),
    re.DOTALL,
)
_PLAIN_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/-]{0,63}")


def _told_by(body: bytes) -> tuple[str, str]:
    """Code and message in the body of a failure, in the shapes that upstreams use; else no code and the body."""
    answer = _value(body) if len(body) <= _MOST_READ else None
    said = answer.get("error") or answer if isinstance(answer, dict) else answer
    code, message = None, said
    if isinstance(said, dict):
        code, message = said.get("code"), said.get("message") or said.get("detail")
    if not isinstance(message, str):
        message = body[:MAX_TEXT_BYTES].decode(errors="replace")
    return code if isinstance(code, str) else "", message


def _storable(text: str) -> str:
    return text.encode(errors="replace").decode().replace("\0", "\ufffd")


def _uuid4() -> bytes:
    """A third of uuid.uuid4's time. No reserve of random bytes: a fork would hand them out twice."""
    digits = os.urandom(16).hex()
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}".encode()


def _encode_text(text: str) -> bytes:
    try:
        return _encode(text)
    except UnicodeEncodeError:
        return _encode(text.encode(errors="replace").decode())


_Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_TOKENS)]


class _InputDetails(msgspec.Struct, gc=False):
    cached_tokens: _Count | None = None


class _OutputDetails(msgspec.Struct, gc=False):
    reasoning_tokens: _Count | None = None


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: _Count | None = None
    completion_tokens: _Count | None = None
    total_tokens: _Count | None = None
    input_tokens: _Count | None = None
    output_tokens: _Count | None = None
    prompt_tokens_details: _InputDetails | None = None
    completion_tokens_details: _OutputDetails | None = None
    input_tokens_details: _InputDetails | None = None
    output_tokens_details: _OutputDetails | None = None


class _Answer(msgspec.Struct, gc=False):
    usage: _Usage | None = None


class _Object(msgspec.Struct, gc=False):
    pass


_encode = msgspec.json.encode
_decode_answer = msgspec.json.Decoder(_Answer).decode
_decode_object = msgspec.json.Decoder(_Object).decode
_decode_any = msgspec.json.Decoder(msgspec.Raw).decode


def examine(body: bytes) -> tuple[bool, Tokens | None]:
    """Whether a 2xx answer is a success, a JSON object in UTF-8 (R1), and the usage it tells, in one pass."""
    try:
        answer = _strictly(_decode_answer, body)
    except msgspec.ValidationError:
        return usable_object(body), None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _examine_exactly(body)
    return True, None if answer.usage is None else _tokens(answer.usage)


def usable_object(body: bytes) -> bool:
    """Whether the body is a JSON object in UTF-8 (R1)."""
    try:
        _strictly(_decode_object, body)
    except msgspec.ValidationError:
        return False
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _examine_exactly(body)[0]
    return True


def read_usage(body: bytes) -> Tokens | None:
    """The tokens of a chat completion, completion, response or embeddings answer; None if missing or impossible."""
    return examine(body)[1]


def _strictly(decode: Callable[[bytes], _T], body: bytes) -> _T:
    # msgspec does not look at the bytes of strings that it skips.
    if not body.isascii():
        body.decode()
    return decode(body)


def _tokens(usage: _Usage) -> Tokens | None:
    if usage.prompt_tokens is not None:
        return _chat_tokens(usage, usage.prompt_tokens)
    if usage.input_tokens is None or usage.output_tokens is None:
        return None
    cached = usage.input_tokens_details and usage.input_tokens_details.cached_tokens
    reasoning = usage.output_tokens_details and usage.output_tokens_details.reasoning_tokens
    return _possible(usage.input_tokens, cached or 0, usage.output_tokens, reasoning or 0)


def _chat_tokens(usage: _Usage, prompt_tokens: int) -> Tokens | None:
    output = usage.completion_tokens
    if output is None:
        # Embeddings have no completion; of anything else without, the output is unknown, not nothing.
        if usage.total_tokens != prompt_tokens:
            return None
        output = 0
    cached = usage.prompt_tokens_details and usage.prompt_tokens_details.cached_tokens
    reasoning = usage.completion_tokens_details and usage.completion_tokens_details.reasoning_tokens
    return _possible(prompt_tokens, cached or 0, output, reasoning or 0)


def _possible(input_tokens: int, cached: int, output: int, reasoning: int) -> Tokens | None:
    return Tokens(input_tokens, cached, output, reasoning) if cached <= input_tokens else None


def _value(body: bytes) -> Any:
    try:
        return _strictly(msgspec.json.decode, body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _load(body)


def _is_json(body: bytes) -> bool:
    try:
        _strictly(_decode_any, body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _load(body) is not _NOTHING
    return True


def _examine_exactly(body: bytes) -> tuple[bool, Tokens | None]:
    """For what msgspec refuses though it is JSON: "\\ud83d", half of an emoji that an upstream cut in two."""
    answer = _load(body)
    if not isinstance(answer, dict):
        return False, None
    try:
        usage = msgspec.convert(answer.get("usage"), _Usage | None)
    except msgspec.ValidationError:
        return True, None
    return True, None if usage is None else _tokens(usage)


_NOTHING = object()


def _load(body: bytes) -> Any:
    if b"\\u" not in body:
        return _NOTHING
    try:
        return json.loads(body.decode(), parse_constant=_refuse)
    except (ValueError, RecursionError):
        return _NOTHING


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


class IndexEntry(NamedTuple):
    """One result line of a checkpoint: `length` is its bytes, line end included; lines follow one another."""

    line: int
    failed: bool
    length: int


_ENTRY = Struct("<I?I")
ENTRY_BYTES = _ENTRY.size


def pack_index(entries: Iterable[IndexEntry]) -> bytes:
    """ENTRY_BYTES for each entry."""
    return b"".join([_ENTRY.pack(*entry) for entry in entries])


def unpack_index(data: bytes) -> list[IndexEntry]:
    """Raises struct.error when `data` is not a whole number of entries."""
    return [IndexEntry._make(entry) for entry in _ENTRY.iter_unpack(data)]
