"""The members of a request line that the service looks at, read fast or, where that fails, exactly.

Both ways give `Members`: a dict by path ("custom_id", "body.model" …) that lacks what the line lacks.
"""

import json
from collections import Counter
from typing import Any, ClassVar, NoReturn

import msgspec

Members = dict[str, object]

INTEGER_DIGITS = 1_000

LINE_MEMBERS = ("custom_id", "method", "url", "body")
_OUTPUT_LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "thinking_budget")
BODY_MEMBERS = ("model", "stream", "enable_thinking", "input", *_OUTPUT_LIMITS, "n", "best_of", "prompt")


class InvalidLineError(ValueError):
    """The line is not one JSON object (V1). The message is for the tenant."""


class MemberReader:
    """One pass over the bytes of a good line, skipping everything that is not looked at."""

    def __init__(self, *, with_input: bool) -> None:
        self._found: Members = {}
        self._decode = msgspec.json.Decoder(_LineWithInput if with_input else _Line, dec_hook=self._note).decode
        self._notes = 0

    def read(self, raw: bytes) -> Members | None:
        """None where a closer look is due: something is missing, repeated, of a wrong type, or no JSON."""
        # An object stands for the body: the types below let nothing else through.
        found = self._found = {"body": {}}
        self._notes = 1
        try:
            # msgspec does not look at the bytes of strings that it skips.
            if not raw.isascii():
                raw.decode()
            self._decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None
        return found if self._notes == len(found) else None

    def _note(self, member: "type[_Member]", value: object) -> Any:
        # msgspec keeps the last of repeated members and says nothing; but it calls this once for each.
        self._notes += 1
        self._found[member.path] = value
        return member.noted


class _Member:
    """Not a type that msgspec knows, so that it calls the reader's `_note` with the value."""

    path: ClassVar[str]
    noted: ClassVar[Any]  # an instance of the class itself, the same for all values

    def __init_subclass__(cls, path: str) -> None:
        cls.path = path
        cls.noted = cls()


class _CustomId(_Member, path="custom_id"): ...


class _Method(_Member, path="method"): ...


class _Url(_Member, path="url"): ...


class _Model(_Member, path="body.model"): ...


class _Stream(_Member, path="body.stream"): ...


class _EnableThinking(_Member, path="body.enable_thinking"): ...


class _Input(_Member, path="body.input"): ...


class _MaxTokens(_Member, path="body.max_tokens"): ...


class _MaxCompletionTokens(_Member, path="body.max_completion_tokens"): ...


class _MaxOutputTokens(_Member, path="body.max_output_tokens"): ...


class _ThinkingBudget(_Member, path="body.thinking_budget"): ...


class _N(_Member, path="body.n"): ...


class _BestOf(_Member, path="body.best_of"): ...


class _Prompt(_Member, path="body.prompt"): ...


class _Body(msgspec.Struct, gc=False):
    # Required, so that the first of two bodies either is noted by its model or fails.
    model: _Model
    # Not `| None`: a null would then go unnoted.
    stream: _Stream = _Stream.noted
    enable_thinking: _EnableThinking = _EnableThinking.noted
    max_tokens: _MaxTokens = _MaxTokens.noted
    max_completion_tokens: _MaxCompletionTokens = _MaxCompletionTokens.noted
    max_output_tokens: _MaxOutputTokens = _MaxOutputTokens.noted
    thinking_budget: _ThinkingBudget = _ThinkingBudget.noted
    n: _N = _N.noted
    best_of: _BestOf = _BestOf.noted
    prompt: _Prompt = _Prompt.noted


class _BodyWithInput(_Body, gc=False):
    input: _Input = _Input.noted


class _Line(msgspec.Struct, gc=False):
    custom_id: _CustomId
    method: _Method
    url: _Url
    body: _Body


class _LineWithInput(msgspec.Struct, gc=False):
    custom_id: _CustomId
    method: _Method
    url: _Url
    body: _BodyWithInput


def read_exactly(raw: bytes) -> Members:
    """The same members by the slow way. Raises InvalidLineError, or RecursionError, where the line breaks V1."""
    line = _parse(raw)
    if not isinstance(line, _Object):
        raise InvalidLineError(f"Expected a JSON object, but got {json_type(line)}.")
    _refuse_repeated(line, LINE_MEMBERS)
    members: Members = {name: line[name] for name in LINE_MEMBERS if name in line}
    body = line.get("body")
    if isinstance(body, _Object):
        _refuse_repeated(body, BODY_MEMBERS)
        members |= {f"body.{name}": body[name] for name in BODY_MEMBERS if name in body}
    # A custom_id's are reported as the custom_id's fault.
    _refuse_lone_surrogates(line | {"custom_id": None})
    return members


def json_type(value: object) -> str:
    """What a tenant calls the type of a decoded value: "a number", "an array"."""
    names: dict[type, str] = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "an array"}
    return "null" if value is None else names.get(type(value), "an object")


class _Object(dict[str, object]):
    repeated: frozenset[str] = frozenset()


def _object(pairs: list[tuple[str, Any]]) -> _Object:
    members = _Object(pairs)
    if len(members) != len(pairs):
        times = Counter(name for name, _ in pairs)
        members.repeated = frozenset(name for name in times if times[name] > 1)
    return members


def _parse(raw: bytes) -> object:
    try:
        return json.loads(raw.decode(), object_pairs_hook=_object, parse_int=_number, parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise InvalidLineError(f"Invalid UTF-8 at byte {error.start + 1} of the line.") from None
    except json.JSONDecodeError as error:
        raise InvalidLineError(f"Invalid JSON at column {error.colno}: {error.msg}.") from None


def _number(digits: str) -> int | float:
    """int() refuses 5,000 digits; of a number that long nobody wants the exact value."""
    return int(digits) if len(digits) <= INTEGER_DIGITS else float(digits)


def _refuse_constant(name: str) -> NoReturn:
    raise InvalidLineError(f"Invalid JSON: {name} is not a JSON number.")


def _refuse_repeated(members: _Object, names: tuple[str, ...]) -> None:
    for name in names:
        if name in members.repeated:
            raise InvalidLineError(f"Duplicate key '{name}': it may appear only once.")


def _refuse_lone_surrogates(value: object) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        escape = f"\\u{ord(error.object[error.start]):04x}"
        raise InvalidLineError(f"Invalid Unicode: {escape} is half of a surrogate pair.") from None
