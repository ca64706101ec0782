"""Judging request lines."""

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from batches_app.request_lines import Checker, ModelRules, Violation, parse_request
from batches_app.request_members import MemberReader, read_exactly
from files_app.jsonl import Line

CHAT = "/v1/chat/completions"
EMBEDDINGS = "/v1/embeddings"
MODELS = {
    "chat": ModelRules("chat", frozenset({CHAT}), None),
    "other": ModelRules("other", frozenset({CHAT}), None),
    "small": ModelRules("small", frozenset({CHAT}), 10),
    "embed": ModelRules("embed", frozenset({EMBEDDINGS}), None),
}


def line(content: bytes | str | dict[str, Any], number: int = 1) -> Line:
    raw = json.dumps(content).encode() if isinstance(content, dict) else content
    raw = raw.encode() if isinstance(raw, str) else raw
    return Line(number, 0, raw, len(raw), len(raw) + 1)


def request(custom_id: object = "a", /, **body: object) -> dict[str, Any]:
    return {"custom_id": custom_id, "method": "POST", "url": CHAT, "body": {"model": "chat", **body}}


def checker(endpoint: str = CHAT, **limits: int) -> Checker:
    return Checker(endpoint=endpoint, find_model=MODELS.get, **limits)


def check(*contents: bytes | str | dict[str, Any], endpoint: str = CHAT, **limits: int) -> list[Violation]:
    judge = checker(endpoint, **limits)
    return [found for number, content in enumerate(contents, 1) for found in judge.check(line(content, number))]


def codes(*contents: bytes | str | dict[str, Any], endpoint: str = CHAT, **limits: int) -> list[tuple[int | None, str]]:
    return [(found.line, found.code) for found in check(*contents, endpoint=endpoint, **limits)]


def with_raw(value: str) -> str:
    return '{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{"model":"chat","x":' + value + "}}"


def test_good_lines_are_fine() -> None:
    """V1-V10: nothing is wrong with an ordinary file."""
    judge = checker()
    first, second = line(request("a", stream=True, enable_thinking=False)), line(request("é\u2028 1", x=["今"]), 2)
    assert judge.check(first) == judge.check(second) == judge.finish() == []
    assert (judge.requests, judge.model, judge.full) == (2, "chat", False)


@pytest.mark.parametrize(
    "raw",
    [
        "{", "nonsense", "{}{}", "[]", '"text"', "1", "null",
        *map(with_raw, ["NaN", "Infinity", "-Infinity", "01", "1.", "[1,]", "{1:2}", "tru", '"\\q"', '"\\u12"', "+1"]),
        *map(with_raw, ['"\\ud83d"', '"\\udc00 x"', '"a\tb"', '"a\0b"', "[" * 100_000 + "]" * 100_000, "[" * 100_000]),
        *(with_raw("1").encode() + tail for tail in (b"x", b"\xff")),
        *(with_raw('"?"').encode().replace(b"?", bad) for bad in (b"\xff", b"\xed\xa0\x80", b"\xc0\x80")),
    ],
    ids=lambda raw: repr(raw[:12] + raw[-20:]),
)  # fmt: skip
def test_what_is_not_one_json_object_is_refused(raw: str | bytes) -> None:
    """V1: one JSON object in UTF-8, without NaN, however it is broken or nested."""
    (found,) = check(raw)
    assert (found.code, found.param, found.line) == ("invalid_json_line", None, 1)
    found.message.encode()
    assert "\0" not in found.message


def test_a_line_that_is_not_json_is_told_as_that_alone() -> None:
    """V1: what else seems wrong with it may come from the misreading."""
    broken = with_raw('"\\ud83d"').replace("POST", "GET")
    assert codes(broken) == [(1, "invalid_json_line")]
    assert "\\ud83d" in check(broken)[0].message
    assert codes(with_raw("1").replace('"a"', "NaN")) == [(1, "invalid_json_line")]
    assert "nested" in check(with_raw("[" * 100_000))[0].message


@pytest.mark.parametrize(
    "content", [request(), request(stream=True, enable_thinking=True), request(enable_thinking=None), with_raw('"é"')]
)
def test_good_lines_take_the_fast_way(content: dict[str, Any] | str) -> None:
    """V1-V10: 50,000 lines of 10 KB are judged in a second."""
    assert MemberReader(with_input=False).read(line(content).raw) is not None


@pytest.mark.parametrize(
    "value", ["1e999", "9" * 5000, "[[[]]]", '"\\ud83d\\ude00"', '"\\u0000"', "-0.0", ' "\u2028" ']
)
def test_odd_but_valid_values_go_to_the_upstream(value: str) -> None:
    """V1: all else in the body is the upstream's to judge."""
    assert check(with_raw(value)) == []
    assert parse_request(line(with_raw(value))).body == json_body(with_raw(value))


def json_body(raw: str) -> bytes:
    return raw.split('"body":', 1)[1].removesuffix("}").encode()


@pytest.mark.parametrize(
    "repeat",
    [
        ('"custom_id":"a"', '"custom_id":"b","custom_id":"a"'),
        ('"custom_id":"a"', '"custom_id":"a","custom_id":"a"'),
        ('"custom_id":"a"', '"\\u0063ustom_id":"b","custom_id":"a"'),
        ('"method":"POST"', '"method":"GET","method":"POST"'),
        ('"method":"POST"', '"method":null,"method":"POST"'),
        ('"url"', '"url":"/v1/x","url"'),
        ('"body"', '"body":{},"body"'),
        ('"body"', '"body":{"model":"other"},"body"'),
        ('"body"', '"body":1,"body"'),
        ('"model"', '"model":"other","model"'),
        ('"model"', '"mod\\u0065l":"other","model"'),
        ('"model"', '"stream":true,"stream":false,"model"'),
        ('"model"', '"stream":true,"stream":null,"model"'),
        ('"model"', '"enable_thinking":true,"enable_thinking":null,"model"'),
    ],
    ids=lambda repeat: repeat[1],
)
def test_repeated_keys_that_matter_are_refused(repeat: tuple[str, str]) -> None:
    """V1: no duplicate keys that matter, escaped or not: the service and the upstream could read different ones."""
    raw = with_raw("1").replace(*repeat)
    (found,) = check(raw)
    assert found.code == "invalid_json_line"
    assert "Duplicate key" in found.message


def test_repeated_keys_elsewhere_do_not_matter() -> None:
    """V1: keys inside messages or tools are the upstream's."""
    assert check(with_raw('{"model":1,"model":2,"custom_id":1,"custom_id":1,"body":1,"body":2}')) == []


def test_each_missing_parameter_is_named() -> None:
    """V2: one entry for each missing one, and null is missing."""
    found = check({"custom_id": None}, {**request(), "body": {"model": None}})
    assert [(one.line, one.code, one.param) for one in found] == [
        (1, "missing_required_parameter", "custom_id"),
        (1, "missing_required_parameter", "method"),
        (1, "missing_required_parameter", "url"),
        (1, "missing_required_parameter", "body"),
        (2, "missing_required_parameter", "body.model"),
    ]
    assert found[0].message == "Missing required parameter: 'custom_id'."


@pytest.mark.parametrize(
    ("content", "code", "param"),
    [
        (request(1), "invalid_type", "custom_id"),
        (request(["a"]), "invalid_type", "custom_id"),
        (request(True), "invalid_type", "custom_id"),
        (with_raw("1").replace('"a"', "9" * 5000), "invalid_type", "custom_id"),
        (with_raw("1").replace('"a"', "1e999"), "invalid_type", "custom_id"),
        (request(""), "invalid_value", "custom_id"),
        (request("a\0"), "invalid_value", "custom_id"),
        (request("a\ud800"), "invalid_value", "custom_id"),
        ({**request(), "body": [1]}, "invalid_type", "body"),
        ({**request(), "body": "x"}, "invalid_type", "body"),
        (request(model=7), "invalid_type", "body.model"),
        (request(model={"a": 1}), "invalid_type", "body.model"),
        (request(enable_thinking="true"), "invalid_type", "body.enable_thinking"),
        (request(enable_thinking=1), "invalid_type", "body.enable_thinking"),
    ],
)
def test_wrong_types_and_values_are_told(content: dict[str, Any] | str, code: str, param: str) -> None:
    """V3: a custom_id is a non-empty string; the other members have their types too."""
    assert [(found.code, found.param, found.line) for found in check(content)] == [(code, param, 1)]


def test_the_number_1_is_not_the_custom_id_1() -> None:
    """V3: a number is not a string, and uses up no custom_id."""
    assert codes(request(1), request("1"), request("1")) == [(1, "invalid_type"), (3, "duplicate_custom_id")]


@pytest.mark.parametrize("length", [1, 63, 64, 65, 10_000])
def test_custom_ids_are_unique_however_long(length: int) -> None:
    """V3: unique in the file; the message names the line that had it first."""
    name = "é" * length
    found = check(request(name), request(name + "x"), request(name), request(name))
    assert [(one.line, one.code, one.param) for one in found] == [
        (3, "duplicate_custom_id", "custom_id"),
        (4, "duplicate_custom_id", "custom_id"),
    ]
    assert all("line 1" in one.message and len(one.message) < 250 for one in found)


def test_long_custom_ids_that_differ_are_different() -> None:
    """V3: only a digest of a long one is kept."""
    assert check(*(request("x" * 100 + str(number)) for number in range(600))) == []


def test_custom_ids_are_compared_by_value_not_by_spelling() -> None:
    """V3: an escaped letter is the same letter."""
    assert codes(request("a"), with_raw("1").replace('"a"', '"\\u0061"')) == [(2, "duplicate_custom_id")]


@pytest.mark.parametrize("method", ["GET", "post", "", 1, ["POST"]])
def test_only_post_is_supported(method: object) -> None:
    """V4: `method` is POST."""
    (found,) = check({**request(), "method": method})
    assert (found.code, found.param) == ("invalid_method", "method")
    assert "'POST'" in found.message


@pytest.mark.parametrize("url", [EMBEDDINGS, CHAT + "/", "", 1, {}])
def test_the_url_is_the_batchs_endpoint(url: object) -> None:
    """V5: `url` equals the endpoint."""
    (found,) = check({**request(), "url": url})
    assert (found.code, found.param) == ("invalid_url", "url")
    assert CHAT in found.message


@pytest.mark.parametrize("model", ["nothing", "embed", "", "x" * 10_000, "a\0b"])
def test_a_model_that_does_not_serve_the_endpoint_is_not_found(model: str) -> None:
    """V6: the model exists and serves the endpoint."""
    (found,) = check(request(model=model))
    assert (found.code, found.param) == ("model_not_found", "body.model")
    assert len(found.message) < 250


def test_each_model_is_asked_for_once_and_never_by_an_impossible_name() -> None:
    """V6: 50,000 lines are not 50,000 queries."""
    asked: list[str] = []

    def find(name: str) -> ModelRules | None:
        asked.append(name)
        return MODELS.get(name)

    judge = Checker(endpoint=CHAT, find_model=find)
    for number, model in enumerate(["chat", "x", "chat", "x", "a\0", "y" * 1000]):
        judge.check(line(request(str(number), model=model), number))
    assert asked == ["chat", "x"]


def test_all_lines_have_the_model_of_the_first() -> None:
    """V7: the same model on every line; one that is not served does not set it."""
    found = codes(*(request(str(i), model=model) for i, model in enumerate(["x", "chat", "other", "chat", "y"])))
    assert found == [
        (1, "model_not_found"),
        (3, "mismatched_model"),
        (5, "model_not_found"),
        (5, "mismatched_model"),
    ]


def test_all_lines_have_the_thinking_mode_of_the_first() -> None:
    """V8: the same thinking mode on every line, absent and null being false."""
    modes: list[dict[str, Any]] = [{}, {"enable_thinking": False}, {"enable_thinking": None}, {"enable_thinking": True}]
    assert codes(*(request(str(i), **mode) for i, mode in enumerate(modes))) == [(4, "mismatched_thinking_mode")]
    assert codes(request("a", enable_thinking=True), request("b")) == [(2, "mismatched_thinking_mode")]


def test_a_line_that_is_too_large_is_not_read() -> None:
    """V9: a line has a limit, in bytes."""
    size = len(line(request()).raw)
    assert codes(request(), max_line_bytes=size) == []
    assert codes(request(), max_line_bytes=size - 1) == [(1, "line_too_large")]
    (found,) = checker().check(Line(3, 0, b"", 7_340_032, 7_340_033))
    assert (found.line, found.message) == (3, "The line has 7,340,032 bytes. Supported are at most 6,291,456.")


@pytest.mark.parametrize(
    ("value", "count"),
    [
        ("text", 1),
        (["a", "b"], 2),
        ([1, 2, 3], 1),
        ([[1], [2, 3]], 2),
        ([], 0),
        (None, 0),
        ({"a": 1}, 1),
        ([1.5, 2], 1),
    ],
)
def test_inputs_are_counted_in_all_their_forms(value: object, count: int) -> None:
    """V9: a list of token ids is one input, a list of texts or of lists as many as it has."""
    content = {**request(model="embed", input=value), "url": EMBEDDINGS}
    assert check(content, endpoint=EMBEDDINGS, max_inputs=count) == []
    if count:
        found = check(content, endpoint=EMBEDDINGS, max_inputs=count - 1)
        assert [(one.code, one.param, one.line) for one in found] == [("too_many_inputs", "body.input", 1)]


def test_too_many_inputs_are_told_once_at_the_line_that_passes_the_limit() -> None:
    """V9: 50,000 inputs in all, over the whole file."""
    contents = [{**request(str(i), model="embed", input=["x"] * 2), "url": EMBEDDINGS} for i in range(5)]
    assert codes(*contents, endpoint=EMBEDDINGS, max_inputs=5) == [(3, "too_many_inputs")]


def test_a_body_that_cannot_fit_the_context_is_refused() -> None:
    """V10: counted generously, and by the body's own bytes, not the line's."""
    body = {"model": "small", "x": ""}
    body["x"] = "y" * (160 - len(json.dumps(body)))
    assert codes({**request(), "body": body}) == []
    body["x"] += "y"
    (found,) = check({**request(), "body": body})
    assert (found.code, found.param) == ("context_length_exceeded", "body")
    assert check({**request(), "body": body}, bytes_per_token=17) == []


@pytest.mark.parametrize("rule", ["small", "chat"])
def test_there_is_no_depth_at_which_a_line_is_neither_fine_nor_refused(rule: str) -> None:
    """V1: also where it is just shallow enough to be read, and too deep to be measured (V10)."""
    found = set()
    for depth in range(700, 1_001):
        text = with_raw("[" * depth + "]" * depth).replace('"model":"chat"', f'"model":"{rule}"')
        found |= {code for _, code in codes(text + " " * 2_000)}
    assert found == {"invalid_json_line", *(["context_length_exceeded"] if rule == "small" else [])}


def test_an_empty_file_is_refused() -> None:
    """V11: not empty; this concerns no line."""
    (found,) = checker().finish()
    assert (found.code, found.line) == ("empty_file", None)


def test_too_many_requests_are_told_once() -> None:
    """V11: the first line beyond the limit says so, and the rest is not looked at."""
    judge = checker(max_requests=2)
    found = [one for number in range(1, 6) for one in judge.check(line(request(str(number)), number))]
    assert [(one.code, one.line) for one in found] == [("too_many_requests", 3)]
    assert judge.full
    assert judge.requests == 2
    assert not judge.finish()


def test_every_violation_of_a_line_is_told() -> None:
    """V2-V8: not just the first."""
    bad = {"custom_id": "a", "method": "GET", "url": "/x", "body": {"model": "x", "enable_thinking": 1}}
    assert [code for _, code in codes(request("a"), bad)] == [
        "duplicate_custom_id",
        "invalid_method",
        "invalid_url",
        "model_not_found",
        "mismatched_model",
        "invalid_type",
    ]


def test_a_violation_as_json_has_its_members_in_order() -> None:
    """V1: `errors.data` entries are {code, message, param, line}."""
    assert list(Violation("c", "m", None, 3).as_json().items()) == [
        ("code", "c"),
        ("message", "m"),
        ("param", None),
        ("line", 3),
    ]


nasty = st.text(st.characters(exclude_categories=[]) | st.sampled_from("\0\ud800\udfff\n'"), max_size=150)


@example(["\0", "\0", "\0", "\0"])
@example(["\ud800"] * 4)
@settings(max_examples=60)
@given(st.lists(nasty | st.integers() | st.none(), min_size=4, max_size=4))
def test_messages_are_short_and_storable_whatever_the_tenant_sent(values: list[object]) -> None:
    """C6: NUL and lone surrogates never reach the database."""
    custom_id, method, url, model = values
    for found in check({"custom_id": custom_id, "method": method, "url": url, "body": {"model": model}}):
        assert "\0" not in found.message
        found.message.encode()
        assert len(found.message) < 300


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)


@settings(max_examples=150)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "custom_id": st.text() | values,
            "method": st.sampled_from(["POST", "GET"]),
            "url": st.just(CHAT) | values,
            "body": st.fixed_dictionaries(
                {}, optional={"model": st.text() | values, "enable_thinking": values, "stream": values, "x": values}
            )
            | values,
        },
    ),
    st.booleans(),
)
def test_the_fast_reader_sees_what_the_exact_one_sees(content: dict[str, Any], ascii_only: bool) -> None:
    """V1-V8: speed changes no judgement."""
    raw = json.dumps(content, ensure_ascii=ascii_only).encode()
    fast, exact = MemberReader(with_input=False).read(raw), read_exactly(raw)
    if fast is not None:
        assert isinstance(exact.pop("body"), dict)
        assert fast.pop("body") == {}
        exact.pop("body.input", None)
        assert fast == exact


def test_the_bodies_bytes_are_summed_up_from_above() -> None:
    """V12: the estimate of tokens starts from the bytes of the bodies, at most a few bytes a line too many."""
    judge = checker()
    contents = [request("é" * 10, x="今" * 50), request("b")]
    for number, content in enumerate(contents, 1):
        judge.check(line(json.dumps(content, ensure_ascii=False), number))
    true = sum(len(json.dumps(content["body"], ensure_ascii=False).encode()) for content in contents)
    assert true <= judge.body_bytes <= true + 2 * 20
