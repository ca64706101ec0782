"""The rules for the request lines of one input file, V1 to V11."""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b

import msgspec

from batches_app.heavy_lines import MOST_VALUES, TooManyValues, is_heavy, read_heavy
from batches_app.request_members import InvalidLineError, MemberReader, Members, json_type, read_exactly
from batches_app.request_parsing import Request, body_size, parse_request
from files_app.jsonl import Line

__all__ = ["MOST_VALUES", "Checker", "ModelRules", "Request", "Violation", "parse_request"]

EMBEDDINGS = "/v1/embeddings"
QUOTED_CHARACTERS = 100
MODEL_NAME_CHARACTERS = 256
CUSTOM_ID_CHARACTERS_KEPT = 64
LIMIT_PATHS = ("body.max_tokens", "body.max_completion_tokens", "body.max_output_tokens")
OUTPUT_PATHS = frozenset({*LIMIT_PATHS, "body.thinking_budget", "body.n", "body.best_of", "body.prompt"})
MOST_OUTPUT_TOKENS = 100_000_000  # as in an answer's usage: sums stay within a database's integers


@dataclass(frozen=True, slots=True)
class Violation:
    """One entry of a failed batch's `errors.data`; `line` is None for what concerns the whole file."""

    code: str
    message: str
    param: str | None
    line: int | None

    def as_json(self) -> dict[str, str | int | None]:
        return {"code": self.code, "message": self.message, "param": self.param, "line": self.line}


@dataclass(frozen=True, slots=True)
class ModelRules:
    """What the checker needs to know of a served model. Without `context_tokens` every body fits; `max_output_tokens`
    is the most that an answer may have whose request sets no limit."""

    name: str
    endpoints: frozenset[str]
    context_tokens: int | None
    max_output_tokens: int = 4096


class Checker:
    """Judges the lines of one file, in order, and gathers what the batch needs to know of them.

    Lines beyond `max_requests` are not judged: once `full` is true, stop. `find_model` is asked once for each name.
    """

    def __init__(
        self,
        *,
        endpoint: str,
        find_model: Callable[[str], ModelRules | None],
        max_requests: int = 50_000,
        max_line_bytes: int = 6_291_456,
        max_inputs: int = 50_000,
        bytes_per_token: int = 16,
    ) -> None:
        self.requests = 0
        self.model: str | None = None  # of the first line whose model is served
        self.body_bytes = 0  # never less than the true sum, and more by a few bytes a line
        self.output_tokens = 0  # the most that all answers may have together
        self.full = False
        self._endpoint = endpoint
        self._find_model = find_model
        self._max_requests = max_requests
        self._max_line_bytes = max_line_bytes
        self._max_inputs = max_inputs
        self._bytes_per_token = bytes_per_token
        self._reader = MemberReader(with_input=endpoint == EMBEDDINGS)
        self._least_around_body = len('{"custom_id":"","method":"POST","url":"","body":}' + endpoint)
        self._line_by_custom_id: dict[str | bytes, int] = {}
        self._rules_by_model: dict[str, ModelRules | None] = {}
        self._thinking: bool | None = None  # of the first line that has a valid one
        self._inputs = 0
        self._number = 0
        self._violations: list[Violation] = []

    def check(self, line: Line) -> list[Violation]:
        """All that is wrong with the line (V1-V10, and V11's limit); empty when it is fine."""
        self._number = line.number
        self._violations = []
        if self.requests == self._max_requests:
            self._report_full()
            return self._violations
        self.requests += 1
        if line.size > self._max_line_bytes:
            message = f"The line has {line.size:,} bytes. Supported are at most {self._max_line_bytes:,}."
            self._report("line_too_large", message, None)
            return self._violations
        heavy = is_heavy(line.raw)
        members = None if heavy else self._reader.read(line.raw)
        try:
            if members is None:
                self._look_again(line, read_heavy if heavy else read_exactly)
            else:
                self._apply_rules(line, members)
        except RecursionError:  # in a rule, too: there the stack is deeper than where the line was read
            self._report("invalid_json_line", "The JSON is nested too deeply.", None)
        return self._violations

    def finish(self) -> list[Violation]:
        """What is wrong with the file as a whole (V11), once every line has been checked."""
        if self.requests:
            return []
        return [Violation("empty_file", "The file holds no requests. It must hold at least one.", None, None)]

    def _look_again(self, line: Line, read: Callable[[bytes], Members]) -> None:
        try:
            self._apply_rules(line, read(line.raw))
            if not self._violations:
                # The lanes have only the fast decoder: a line that it cannot read is not fine.
                parse_request(line)
        except (InvalidLineError, msgspec.MsgspecError) as error:
            self._report("invalid_json_line", str(error), None)
        except TooManyValues as error:
            message = f"'{error}' holds more than {MOST_VALUES:,} arrays, objects and texts."
            self._report("line_too_large", message, str(error))

    def _apply_rules(self, line: Line, members: Members) -> None:
        self._check_custom_id(members.get("custom_id"), line)
        self._check_method(members.get("method"))
        self._check_url(members.get("url"))
        body = members.get("body")
        if isinstance(body, dict):
            self._check_model(members.get("body.model"), line)
            self._check_thinking(members.get("body.enable_thinking"))
            if self._endpoint == EMBEDDINGS:
                self._check_inputs(members.get("body.input"))
            elif self.model is not None and (rules := self._rules_by_model.get(self.model)):
                self.output_tokens += most_output_tokens(members, rules.max_output_tokens)
        elif body is None:
            self._report_missing("body")
        else:
            self._report_type("body", "an object", body)

    def _check_custom_id(self, value: object, line: Line) -> None:
        if value is None:
            self._report_missing("custom_id")
        elif not isinstance(value, str):
            self._report_type("custom_id", "a string", value)
        elif not value or not _is_storable(value):
            message = f"Invalid custom_id: {_quote(value)}. It must be a non-empty string of Unicode without NUL."
            self._report("invalid_value", message, "custom_id")
        else:
            self.body_bytes += line.size - self._least_around_body - len(value)
            first = self._line_by_custom_id.setdefault(_key(value), line.number)
            if first != line.number:
                message = f"Duplicate custom_id: {_quote(value)} is already that of line {first}. Each must be unique."
                self._report("duplicate_custom_id", message, "custom_id")

    def _check_method(self, value: object) -> None:
        if value is None:
            self._report_missing("method")
        elif value != "POST":
            self._report("invalid_method", f"Invalid method: {_quote(value)}. It must be 'POST'.", "method")

    def _check_url(self, value: object) -> None:
        if value is None:
            self._report_missing("url")
        elif value != self._endpoint:
            message = f"Invalid url: {_quote(value)}. It must be the batch's endpoint, '{self._endpoint}'."
            self._report("invalid_url", message, "url")

    def _check_model(self, name: object, line: Line) -> None:
        if name is None:
            self._report_missing("body.model")
        elif not isinstance(name, str):
            self._report_type("body.model", "a string", name)
        else:
            rules = self._rules_of(name)
            if rules is None:
                self._report("model_not_found", f"The model {_quote(name)} does not exist.", "body.model")
            elif self._endpoint not in rules.endpoints:
                self._report("model_not_found", _not_served(rules, self._endpoint), "body.model")
            elif self.model is None:
                self.model = name
            if self.model is not None and self.model != name:
                message = f"Another model, {_quote(name)}. All lines of a file must have the same: '{self.model}'."
                self._report("mismatched_model", message, "body.model")
            if rules is not None and rules.context_tokens is not None:
                self._check_context(rules.name, rules.context_tokens, line)

    def _rules_of(self, name: str) -> ModelRules | None:
        if name not in self._rules_by_model:
            # Not worth remembering, and a database may refuse to be asked.
            if len(name) > MODEL_NAME_CHARACTERS or not _is_storable(name):
                return None
            self._rules_by_model[name] = self._find_model(name)
        return self._rules_by_model[name]

    def _check_context(self, model: str, tokens: int, line: Line) -> None:
        limit = tokens * self._bytes_per_token
        if line.size > limit and (size := body_size(line.raw)) > limit:
            message = (
                f"The body has {size:,} bytes. The context of '{model}', {tokens:,} tokens, fits at most {limit:,}."
            )
            self._report("context_length_exceeded", message, "body")

    def _check_thinking(self, value: object) -> None:
        mode = False if value is None else value
        if not isinstance(mode, bool):
            self._report_type("body.enable_thinking", "a boolean", value)
        elif self._thinking is None:
            self._thinking = mode
        elif mode != self._thinking:
            message = (
                f"Another thinking mode, {str(mode).lower()}. All lines of a file must have the same: "
                f"{str(self._thinking).lower()}. Absent means false."
            )
            self._report("mismatched_thinking_mode", message, "body.enable_thinking")

    def _check_inputs(self, value: object) -> None:
        before = self._inputs
        self._inputs += _count_inputs(value)
        if before <= self._max_inputs < self._inputs:
            message = (
                f"Up to this line the file holds {self._inputs:,} inputs. Supported are at most {self._max_inputs:,}."
            )
            self._report("too_many_inputs", message, "body.input")

    def _report_full(self) -> None:
        if not self.full:
            self.full = True
            message = f"The file holds too many requests. Supported are at most {self._max_requests:,}."
            self._report("too_many_requests", message, None)

    def _report_missing(self, param: str) -> None:
        self._report("missing_required_parameter", f"Missing required parameter: '{param}'.", param)

    def _report_type(self, param: str, expected: str, value: object) -> None:
        message = f"Invalid type for '{param}': expected {expected}, but got {json_type(value)} instead."
        self._report("invalid_type", message, param)

    def _report(self, code: str, message: str, param: str | None) -> None:
        self._violations.append(Violation(code, message, param, self._number))


def most_output_tokens(members: Members, otherwise: int) -> int:
    """The most that the answer to a request may have; `otherwise`, for each choice, where it sets no limit. What an
    upstream will refuse (a limit that is no number …) is its to say, and is taken for no limit."""
    if OUTPUT_PATHS.isdisjoint(members):
        return otherwise
    limits = [limit for path in LIMIT_PATHS if (limit := _count(members.get(path)))]  # some take 0 for no limit
    tokens = max(limits, default=otherwise)
    if members.get("body.enable_thinking") is True:
        tokens += _count(members.get("body.thinking_budget")) or 0
    choices = max(_count(members.get("body.n")) or 1, _count(members.get("body.best_of")) or 1)
    prompts = max(1, _count_inputs(members.get("body.prompt")))
    return min(tokens * choices * prompts, MOST_OUTPUT_TOKENS)


def _count(value: object) -> int | None:
    """Upstreams take "8" and 8.0 for 8."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 18:
        return int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _not_served(rules: ModelRules, endpoint: str) -> str:
    served = ", ".join(f"'{served}'" for served in sorted(rules.endpoints))
    return f"The model '{rules.name}' does not serve '{endpoint}', only {served or 'none'}."


def _count_inputs(value: object) -> int:
    if not isinstance(value, list):
        return 0 if value is None else 1
    # A list of token ids is one input.
    return 1 if value and isinstance(value[0], int | float) else len(value)


def _key(custom_id: str) -> str | bytes:
    """Short ones as they are; 50,000 long ones would fill the memory."""
    if len(custom_id) <= CUSTOM_ID_CHARACTERS_KEPT:
        return custom_id
    return blake2b(custom_id.encode(), digest_size=16).digest()


def _is_storable(text: str) -> bool:
    """PostgreSQL refuses NUL and lone surrogates."""
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False


def _quote(value: object) -> str:
    """The tenant's value for a message: short, and storable."""
    if not isinstance(value, str):
        return json_type(value)
    shown = value if len(value) <= QUOTED_CHARACTERS else value[:QUOTED_CHARACTERS] + "…"
    return "'" + shown.encode(errors="replace").decode().replace("\0", "�") + "'"
