"""Result lines, usage, and the index of a checkpoint."""

import json
import struct
import uuid
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batches_app.results import (
    MAX_TEXT_BYTES,
    ErrorCode,
    IndexEntry,
    Outcome,
    custom_id_of,
    error_of,
    examine,
    pack_index,
    read_usage,
    result_line,
    unpack_index,
    usable_object,
)
from billing_app.pricing import Tokens

DEEP = b"[" * 100_000 + b"]" * 100_000
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)


def parsed(custom_id: str, outcome: Outcome) -> dict[str, Any]:
    line = result_line(custom_id, outcome)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert b"\r" not in line
    found: dict[str, Any] = json.loads(line)
    assert list(found) == ["id", "custom_id", "response", "error"]
    assert found["custom_id"] == custom_id
    return found


def test_a_success_has_exactly_the_shape_of_the_contract() -> None:
    """R1: the upstream's body byte for byte."""
    body = b'{"a": 1.0,"b":99999999999999999999999999, "c":"\\u00e9 \xe2\x80\xa8","d":1e5}'
    line = result_line("1", Outcome(200, "req-7", body))
    name = json.loads(line)["id"].encode()
    response = b'{"status_code": 200, "request_id": "req-7", "body": %b}' % body
    assert line == b'{"id": "%b", "custom_id": "1", "response": %b, "error": null}\n' % (name, response)


@given(st.text(), values, st.sampled_from([None, 0, 2, "\t"]), st.booleans())
def test_a_body_with_line_breaks_becomes_one_line_with_the_same_value(
    custom_id: str, value: object, indent: int | str | None, carriage_returns: bool
) -> None:
    """R1: re-serialised only where it holds a line break, and then nothing but the breaks goes."""
    body = json.dumps({"x": value}, indent=indent, ensure_ascii=False).encode()
    if carriage_returns:
        body = body.replace(b"\n", b"\r\n")
    found = parsed(custom_id, Outcome(200, "r", body))
    assert json.dumps(found["response"]["body"]) == json.dumps({"x": value})
    assert found["response"]["request_id"] == "r"


def test_a_request_of_which_the_upstream_tells_no_id_gets_one() -> None:
    """R3: `request_id` is never null."""
    assert len(parsed("a", Outcome(200, None, b"{}"))["response"]["request_id"]) == 36


def test_floats_and_big_integers_survive_the_removal_of_line_breaks() -> None:
    """R1: nothing but the breaks goes."""
    line = result_line("a", Outcome(200, "r", b'{\n"a":\r\n1.10,"b":99999999999999999999999999,"c":"\\n"}'))
    assert b'"body": {"a":1.10,"b":99999999999999999999999999,"c":"\\n"}}' in line


def test_ids_are_different_version_4_uuids() -> None:
    """R1: `id` is a uuid."""
    names = [json.loads(result_line("a", Outcome(200, None, b"{}")))["id"] for _ in range(2000)]
    assert len(set(names)) == 2000
    assert {name[19] for name in names} == set("89ab")
    for name in names:
        assert str(uuid.UUID(name)) == name
        assert (uuid.UUID(name).version, uuid.UUID(name).variant) == (4, uuid.RFC_4122)


def test_a_carriage_return_alone_is_a_line_break() -> None:
    """R1: some readers split at it."""
    assert parsed("a", Outcome(200, None, b'{"a":\r1}'))["response"]["body"] == {"a": 1}


@pytest.mark.parametrize("body", [b'{"error": {"code": 7}}', b'"text"', b"[1.0]", b"null", b'{"a":\n1}', b'"\\ud83d"'])
def test_an_http_failure_keeps_its_json(body: bytes) -> None:
    """R3: status_code, request_id and body in `response`, and no top-level error."""
    found = parsed("a", Outcome(429, "req-1", body))
    assert found["response"] == {"status_code": 429, "request_id": "req-1", "body": json.loads(body)}
    assert found["error"] is None


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", ""),
        (b"<html>\n\r\0", "<html>\n\r\0"),
        (b"\xff{}", "\ufffd{}"),
        (b'{"a":"\xff"}', '{"a":"\ufffd"}'),
        (b"{} {}", "{} {}"),
        (b"[NaN]", "[NaN]"),
        (b'["\\u0041", NaN]', '["\\u0041", NaN]'),
        (b"x" * 70_000, "x" * MAX_TEXT_BYTES),
        (DEEP, DEEP[:MAX_TEXT_BYTES].decode()),
    ],
    ids=["empty", "html", "no UTF-8", "no UTF-8 inside", "two", "NaN", "NaN and escapes", "long", "deep"],
)
def test_an_http_failure_that_is_not_json_becomes_text(body: bytes, text: str) -> None:
    """R3: an answer is kept, whatever it is, and cannot break the line."""
    response = parsed("a", Outcome(502, "r", body))["response"]
    assert response == {"status_code": 502, "request_id": "r", "body": text}


def test_anything_else_is_an_error_without_a_response() -> None:
    """R3: no connection, time-out, unusable answer; a status seen on the way does not matter."""
    outcome = Outcome(200, "req-1", b"{", ErrorCode.INVALID_RESPONSE, 'No "JSON"\n\ud800')
    found = parsed("é", outcome)
    assert found["response"] is None
    assert found["error"] == {"code": "invalid_response", "message": 'No "JSON"\n?'}


def test_an_unrun_request_says_why() -> None:
    """B10: `response: null` and `error {code, message}`."""
    found = parsed("a", Outcome(None, None, b"", ErrorCode.BATCH_EXPIRED, "Too late."))
    assert (found["response"], found["error"]) == (None, {"code": "batch_expired", "message": "Too late."})


@pytest.mark.parametrize(
    ("status_code", "error_code", "succeeded"),
    [
        (200, None, True),
        (299, None, True),
        (300, None, False),
        (199, None, False),
        (None, None, False),
        (200, "x", False),
    ],
)
def test_success_is_a_2xx_without_a_fault(status_code: int | None, error_code: str | None, succeeded: bool) -> None:
    """R1: success = HTTP 2xx, and R3: anything that went wrong besides is none."""
    assert Outcome(status_code, None, b"{}", error_code).succeeded is succeeded


@pytest.mark.parametrize(
    ("body", "usable"),
    [
        (b"{}", True),
        (b' \n{"a":"\xe4\xbb\x8a"} ', True),
        (b'{"a":"\\ud83d"}', True),
        (b'{"usage":{"prompt_tokens":"x"}}', True),
        (b'{"usage":"x"}', True),
        (b"", False),
        (b"[]", False),
        (b'"a"', False),
        (b"null", False),
        (b"{} x", False),
        (b'{"a":NaN}', False),
        (b'{"a":"\\ud83d","b":NaN}', False),
        (b'{"a":"\xff"}', False),
        (b'{"\xff":1}', False),
        (b'{"usage":"x","a":"\xff"}', False),
        (b'{"usage":"x","a":tru}', False),
        (b'\xef\xbb\xbf{"a":1}', False),
        (b'{"a":' + DEEP + b"}", False),
        (b'{"usage":1,"a":' + DEEP + b"}", False),
    ],
)
def test_a_usable_answer_is_a_json_object_in_utf8(body: bytes, usable: bool) -> None:
    """R1: success = a JSON object in UTF-8; half a surrogate pair, escaped, is still JSON."""
    assert usable_object(body) is usable
    assert examine(body)[0] is usable


def failure(body: bytes, status: int = 400) -> tuple[str, str]:
    return error_of(result_line("a", Outcome(status, None, body)))


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        (
            b'{"error": {"code": "context_length_exceeded", "message": "Too long."}}',
            " context_length_exceeded",
            "Too long.",
        ),
        (b'{"error": {"code": null, "message": "No."}}', "", "No."),
        (b'{"error": {"code": 400, "message": "No."}}', "", "No."),
        (b'{"error": {"code": "400", "message": "No."}}', "", "No."),
        (b'{"error": {"code": "a b", "message": "No."}}', "", "No."),
        (b'{"error": {"code": "%b"}}' % (b"x" * 65), "", '{"error": {"code": "%s"}}' % ("x" * 65)),
        (b'{"error": "Model not loaded."}', "", "Model not loaded."),
        (b'{"object": "error", "message": "No.", "code": 40001}', "", "No."),
        (b'{"detail": "Not Found"}', "", "Not Found"),
        (b'{"detail": [{"loc": 1}]}', "", '{"detail": [{"loc": 1}]}'),
        (b"<html>nginx", "", "<html>nginx"),
        (b"", "", ""),
        (b"[1]", "", "[1]"),
        (b'{"error": {"message": "a\\u0000b\\ud800"}}', "", "a\ufffdb?"),
    ],
)
def test_an_http_failure_is_named_by_its_status_and_the_upstreams_code(body: bytes, code: str, message: str) -> None:
    """Where the code is short and plain: what anybody may put there is not to be a name."""
    assert failure(body) == (f"http_400{code}", message)


def test_a_large_body_is_not_looked_into() -> None:
    """It would take many times its size in memory."""
    body = b'{"error": {"code": "no", "message": "%b"}}' % (b"x" * 300_000)
    assert failure(body) == ("http_400", body[:MAX_TEXT_BYTES].decode())


def test_an_error_without_an_answer_is_named_by_its_own_code() -> None:
    line = result_line("a", Outcome(200, "r", b"{", ErrorCode.TIMEOUT, 'Late "answer".'))
    assert error_of(line) == ("timeout", 'Late "answer".')


CLEVER = '", "response": {"status_code": 599, "request_id": "", "body": {}}, "error": null}'


def test_a_custom_id_that_looks_like_a_response_is_none() -> None:
    line = result_line(CLEVER, Outcome(400, CLEVER, b'{"error": {"code": "no"}}'))
    assert error_of(line)[0] == "http_400 no"
    assert custom_id_of(line) == CLEVER


def test_a_line_from_elsewhere_is_named_too() -> None:
    """To fail would lose a result for the sake of its label."""
    assert error_of(b"{}\n\0") == ("unknown", "{}\n\ufffd")
    assert custom_id_of(b"{}\n") == ""


bodies = st.one_of(
    st.binary(),
    st.builds(lambda value: json.dumps(value).encode(), values),
    st.builds(lambda value: json.dumps({"error": value}, ensure_ascii=False).encode(errors="replace"), values),
    st.builds(lambda depth: b'{"error":' * depth + b"1" + b"}" * depth, st.integers(900, 1100)),
    st.builds(lambda depth: b"[" * depth + b"]" * depth, st.integers(900, 1100)),
)


@given(
    st.text(st.characters()),
    st.integers(300, 999),
    st.none() | st.text(),
    bodies,
    st.sampled_from([None, "timeout", "x" * 200]),
    st.none() | st.text(),
)
def test_the_error_of_a_line_is_always_found_and_can_be_stored(
    custom_id: str, status: int, request_id: str | None, body: bytes, code: str | None, message: str | None
) -> None:
    """Whatever was sent and answered; in UTF-8, without NUL, which PostgreSQL refuses."""
    line = result_line(custom_id, Outcome(status, request_id, body, code, message))
    name, said = error_of(line)
    assert name.startswith(f"http_{status}" if code is None else code[:100])
    assert len(name) <= 100
    assert "\0" not in name + said
    (name + said).encode()
    assert custom_id_of(line) == custom_id.encode(errors="replace").decode().replace("\0", "\ufffd")


CHAT = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
DETAILS = {"prompt_tokens_details": {"cached_tokens": 4}, "completion_tokens_details": {"reasoning_tokens": 2}}
RESPONSE = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}
RESPONSE_DETAILS = {"input_tokens_details": {"cached_tokens": 4}, "output_tokens_details": {"reasoning_tokens": 2}}


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        (CHAT, Tokens(10, 0, 5, 0)),
        (CHAT | DETAILS, Tokens(10, 4, 5, 2)),
        (CHAT | {"prompt_tokens_details": None, "completion_tokens_details": {}}, Tokens(10, 0, 5, 0)),
        (CHAT | {"prompt_tokens_details": {"cached_tokens": None, "audio_tokens": 1}, "x": "y"}, Tokens(10, 0, 5, 0)),
        (RESPONSE, Tokens(10, 0, 5, 0)),
        (RESPONSE | RESPONSE_DETAILS, Tokens(10, 4, 5, 2)),
        ({"prompt_tokens": 8, "total_tokens": 8}, Tokens(8, 0, 0, 0)),
        ({"prompt_tokens": 0, "completion_tokens": 0}, Tokens(0, 0, 0, 0)),
        ({"prompt_tokens": 100_000_000, "completion_tokens": 1}, Tokens(100_000_000, 0, 1, 0)),
    ],
)
def test_usage_is_read_in_its_three_shapes(usage: dict[str, Any], tokens: Tokens) -> None:
    """M1: a success costs by the usage that its answer tells."""
    assert examine(json.dumps({"id": "x", "usage": usage}).encode()) == (True, tokens)
    assert read_usage(json.dumps({"usage": usage, "text": "\ud83d"}).encode()) == tokens


@pytest.mark.parametrize(
    "usage",
    [
        None,
        {},
        [],
        "text",
        CHAT | {"prompt_tokens": -1},
        CHAT | {"prompt_tokens": True},
        CHAT | {"prompt_tokens": 10.0},
        CHAT | {"prompt_tokens": "10"},
        CHAT | {"completion_tokens": 100_000_001},
        CHAT | {"completion_tokens": 10**30},
        CHAT | {"prompt_tokens_details": {"cached_tokens": 11}},
        CHAT | {"prompt_tokens_details": {"cached_tokens": -1}},
        CHAT | {"prompt_tokens_details": 3},
        {"prompt_tokens": 10},
        {"prompt_tokens": 10, "total_tokens": 15},
        {"completion_tokens": 5},
        {"input_tokens": 10},
        {"output_tokens": 10},
    ],
)
def test_missing_or_impossible_usage_is_none_and_the_answer_still_an_object(usage: object) -> None:
    """M4: no invented tokens."""
    assert examine(json.dumps({"usage": usage}).encode()) == (True, None)
    assert examine(json.dumps({"usage": usage, "text": "\ud83d"}).encode()) == (True, None)


def test_an_answer_without_usage_has_none() -> None:
    """M4: no invented tokens."""
    assert examine(b'{"a":1}') == (True, None)
    assert examine(b"nonsense") == (False, None)


entries = st.lists(st.builds(IndexEntry, st.integers(1, 2**32 - 1), st.booleans(), st.integers(1, 2**32 - 1)))


@settings(max_examples=50)
@given(entries)
def test_an_index_reads_back_the_same(entries: list[IndexEntry]) -> None:
    """B10: each line's place in the result files is known by its number."""
    data = pack_index(entries)
    assert unpack_index(data) == entries
    assert len(data) == 9 * len(entries)


def test_the_index_has_the_same_bytes_on_every_machine() -> None:
    """B10: workers of one batch may run on different machines."""
    assert pack_index([IndexEntry(1, True, 258)]) == b"\x01\0\0\0\x01\x02\x01\0\0"


def test_a_damaged_index_is_refused() -> None:
    """B10: rather no result file than a wrong one."""
    with pytest.raises(struct.error):
        unpack_index(b"123")
