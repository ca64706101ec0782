"""Putting a streamed answer together into the object that the call without `stream` would have given (R2)."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple, NoReturn, TypeVar

import msgspec

COMPLETIONS = "/v1/completions"
RESPONSES = "/v1/responses"
BOM = b"\xef\xbb\xbf"

# Said once for a whole message or tool call, though some upstreams repeat it in every delta.
_SAID_ONCE = frozenset({"role", "id", "type", "name"})
_MERGED_BY_INDEX = frozenset({"tool_calls"})

_Members = dict[str, Any]
_T = TypeVar("_T")


class UnusableStream(ValueError):
    """The events do not make a whole answer: cut short, broken JSON, no choices, or an error inside."""


class _Event(NamedTuple):
    name: str
    data: bytes


class _Text(list[str]):
    """The pieces of a string: adding them up one by one would copy a long answer thousands of times."""


def assemble(sse: bytes, endpoint: str) -> bytes:
    """The answer as one JSON object. `endpoint` tells chat completions, completions and responses apart.

    Strings of deltas are joined, lists appended; of a choice's and a chunk's other members the last that says something
    wins. Raises UnusableStream.
    """
    try:
        if endpoint == RESPONSES:
            return _final_response(sse)
        return _Completion(text=endpoint == COMPLETIONS).read(sse)
    except RecursionError:
        raise UnusableStream("The stream holds JSON that is nested too deeply.") from None


def _events(sse: bytes) -> Iterator[_Event]:
    name = ""
    data: list[bytes] = []
    # bytes.splitlines knows \n, \r\n and \r and nothing else, as the standard of server-sent events does.
    for line in [*sse.removeprefix(BOM).splitlines(), b""]:
        if not line:
            if data:
                yield _Event(name, b"\n".join(data))
            name, data = "", []
            continue
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value.decode(errors="replace")


def _final_response(sse: bytes) -> bytes:
    for event in _events(sse):
        if event.data.strip() == b"[DONE]":
            break
        members = _decode_object(event.data)
        kind = members.get("type") or event.name
        if kind in ("response.completed", "response.incomplete"):
            response = members.get("response")
            if not isinstance(response, dict):
                raise UnusableStream(f"The event '{kind}' holds no response.")
            return _encode(response)
        if kind == "response.failed":
            response = members.get("response")
            _raise_error(response.get("error") if isinstance(response, dict) else None)
        if kind == "error":
            _raise_error(members.get("error") or members)
    raise UnusableStream("The stream was cut short: it ended before the response was complete.")


class _Completion:
    """Collects the chunks of one completion, `text` for the legacy kind."""

    def __init__(self, *, text: bool) -> None:
        self._text = text
        self._members: _Members = {}
        self._choices: dict[int, _Members] = {}

    def read(self, sse: bytes) -> bytes:
        done = False
        for event in _events(sse):
            if event.data.strip() == b"[DONE]":
                done = True
                break
            chunk = _decode_object(event.data)
            if event.name == "error" or chunk.get("error") is not None:
                _raise_error(chunk.get("error") or chunk)
            self._add(chunk)
        if not self._choices:
            raise UnusableStream("The stream holds no choices.")
        if not done and not all(choice.get("finish_reason") for choice in self._choices.values()):
            raise UnusableStream("The stream was cut short: it ended before every choice was finished.")
        return _encode(self._assembled())

    def _add(self, chunk: _Members) -> None:
        for name, value in chunk.items():
            if name == "choices":
                for choice in _typed(list, value or [], "choices"):
                    self._add_choice(_typed(dict, choice, "choice"))
            elif name in ("id", "created", "model"):
                self._members[name] = self._members.get(name) or value
            elif name != "object":
                _keep_last(self._members, name, value)

    def _add_choice(self, piece: _Members) -> None:
        index = _typed(int, piece.get("index", 0), "index")
        choice = self._choices.setdefault(index, {"index": index})
        for name, value in piece.items():
            if name == "delta":
                _merge(choice.setdefault("message", {"role": "assistant", "content": None}), value or {})
            elif name in ("logprobs", "text") or isinstance(value, list):
                _merge(choice, {name: value})
            elif name != "index":
                _keep_last(choice, name, value)

    def _assembled(self) -> _Members:
        members = self._members
        whole = {name: members[name] for name in ("id",) if name in members}
        whole["object"] = "text_completion" if self._text else "chat.completion"
        whole |= {name: members[name] for name in ("created", "model") if name in members}
        whole["choices"] = [self._finished(self._choices[index]) for index in sorted(self._choices)]
        return whole | {name: value for name, value in members.items() if name not in whole}

    def _finished(self, choice: _Members) -> _Members:
        if self._text:
            choice.setdefault("text", _Text())
        else:
            choice.setdefault("message", {"role": "assistant", "content": None})
        choice.setdefault("finish_reason", None)
        choice.setdefault("logprobs", None)
        return {name: _joined(value) for name, value in choice.items()}


def _keep_last(members: _Members, name: str, value: Any) -> None:
    if value not in (None, "") or name not in members:
        members[name] = value


def _merge(whole: _Members, delta: Any) -> None:
    for name, value in _typed(dict, delta, "delta").items():
        known = whole.get(name)
        if value is None:
            whole.setdefault(name, None)
        elif name in _MERGED_BY_INDEX:
            _merge_calls(whole, name, value)
        elif name in _SAID_ONCE:
            whole[name] = known or value
        elif isinstance(value, str):
            _extend(whole, name, _Text([value]))
        elif isinstance(value, list):
            _extend(whole, name, value)
        elif isinstance(value, dict):
            target = whole[name] = known if isinstance(known, dict) else {}
            _merge(target, value)
        else:
            whole[name] = value


def _extend(whole: _Members, name: str, more: list[Any]) -> None:
    known = whole.get(name)
    if type(known) is type(more):
        known.extend(more)
    else:
        whole[name] = more


def _merge_calls(message: _Members, name: str, pieces: Any) -> None:
    calls = message.get(name)
    if not isinstance(calls, dict):
        calls = message[name] = _Calls()
    for piece in _typed(list, pieces, name):
        piece = dict(_typed(dict, piece, name))
        index = piece.pop("index", None)
        if index is None:
            # Without an index a new id begins a new call.
            index = len(calls) if piece.get("id") or not calls else max(calls)
        _merge(calls.setdefault(_typed(int, index, "index"), {}), piece)


class _Calls(dict[int, _Members]):
    """Tool calls by their index, which the whole message does not show."""


def _joined(value: Any) -> Any:
    if isinstance(value, _Text):
        return "".join(value)
    if isinstance(value, _Calls):
        return [_joined(value[index]) for index in sorted(value)]
    if isinstance(value, dict):
        return {name: _joined(member) for name, member in value.items()}
    return value


def _typed(kind: type[_T], value: Any, what: str) -> _T:
    if not isinstance(value, kind):
        raise UnusableStream(f"The stream holds a chunk whose {what} is not of the right type.")
    return value


def _raise_error(error: Any) -> NoReturn:
    message = error.get("message") if isinstance(error, dict) else error
    raise UnusableStream(f"The upstream reported an error in the stream: {message or 'no message'}")


def _decode_object(data: bytes) -> _Members:
    try:
        try:
            members = msgspec.json.decode(data)
        except msgspec.MsgspecError:
            # The standard library reads what msgspec refuses: half of a surrogate pair, whose other half is the
            # next delta's, and big integers.
            members = json.loads(data.decode(), parse_constant=_refuse_constant)
    except ValueError:
        raise UnusableStream("The stream holds broken JSON, or was cut short.") from None
    return _typed(dict, members, "data")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _encode(whole: _Members) -> bytes:
    try:
        return msgspec.json.encode(whole)
    except UnicodeEncodeError:
        # Escaped, two halves of a surrogate pair are one character again.
        return _encode_escaped(whole)


def _encode_escaped(whole: _Members) -> bytes:
    try:
        return json.dumps(whole, separators=(",", ":"), allow_nan=False).encode()
    except ValueError:
        raise UnusableStream("The stream holds a number that is too large.") from None
