"""Taking accepted request lines apart."""

import json
import threading
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batches_app.request_lines import Checker, ModelRules, Violation, parse_request
from files_app.jsonl import Line

CHAT = "/v1/chat/completions"
CHAT_MODEL = ModelRules("chat", frozenset({CHAT}), None)


def line(content: str | dict[str, Any], number: int = 1) -> Line:
    raw = (content if isinstance(content, str) else json.dumps(content)).encode()
    return Line(number, 0, raw, len(raw), len(raw) + 1)


def request(custom_id: str = "a", /, **body: object) -> dict[str, Any]:
    return {"custom_id": custom_id, "method": "POST", "url": CHAT, "body": {"model": "chat", **body}}


def with_raw(value: str) -> str:
    return '{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{"model":"chat","x":' + value + "}}"


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)

body_members = st.dictionaries(st.text(), values, max_size=4).map(lambda extra: {**extra, "model": "chat"})


@settings(max_examples=80)
@given(st.text(min_size=1), body_members, st.booleans(), st.sampled_from([None, (",", ":"), (" , ", " :  ")]))
def test_a_request_keeps_the_bytes_of_its_body(
    custom_id: str, body: dict[str, Any], ascii_only: bool, separators: tuple[str, str] | None
) -> None:
    """V12 aside, all else in the body goes to the upstream untouched."""
    body.pop("stream", None)
    text = json.dumps({**request(custom_id), "body": body}, ensure_ascii=ascii_only, separators=separators)
    inner = json.dumps(body, ensure_ascii=ascii_only, separators=separators).encode()
    assert parse_request(line(text, 7)) == (7, custom_id, inner, False)


@settings(max_examples=80)
@given(body_members, st.text(min_size=1))
def test_another_upstream_model_changes_only_the_model(body: dict[str, Any], upstream_model: str) -> None:
    """V6: the public name is not the upstream's; the other members keep their bytes and order."""
    body.pop("stream", None)
    found = parse_request(line({**request(), "body": body}), upstream_model=upstream_model).body
    assert list(json.loads(found).items()) == [*{**body, "model": upstream_model}.items()]
    raws = msgspec.json.decode(found, type=dict[str, msgspec.Raw])
    assert all(bytes(raws[name]) == json.dumps(value).encode() for name, value in body.items() if name != "model")


def test_numbers_and_spaces_survive_the_rewriting() -> None:
    """V6: no float or big integer changes on the way."""
    raw = with_raw('[1.0, 1e5,99999999999999999999999, "\\u00e9"]')
    assert parse_request(line(raw), upstream_model="m").body == (
        b'{"model":"m","x":[1.0, 1e5,99999999999999999999999, "\\u00e9"]}'
    )


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        ({}, {"include_usage": True}),
        ({"stream_options": None}, {"include_usage": True}),
        ({"stream_options": {"include_usage": False, "x": 1}}, {"include_usage": True, "x": 1}),
        ({"stream_options": "nonsense"}, "nonsense"),
    ],
)
def test_a_stream_is_asked_for_its_usage(options: dict[str, Any], sent: object) -> None:
    """R2: a stream is honoured, and tells the usage that M1 bills."""
    found = parse_request(line(request(stream=True, **options)))
    assert found.stream
    assert json.loads(found.body) == {"model": "chat", "stream": True, "stream_options": sent}


def test_a_streamed_response_is_left_as_it_is() -> None:
    """R2: /v1/responses tells its usage anyway, and refuses parameters that it does not know."""
    content = {**request(stream=True), "url": "/v1/responses"}
    found = parse_request(line(content))
    assert (found.stream, found.body) == (True, json.dumps(content["body"]).encode())


@pytest.mark.parametrize("stream", [False, None, "true", 1, 10**400])
def test_what_is_not_true_asks_for_no_stream(stream: object) -> None:
    """R2: `stream: true` is honoured; nonsense is the upstream's to refuse."""
    content = request(stream=stream)
    found = parse_request(line(content))
    assert (found.stream, found.body) == (False, json.dumps(content["body"]).encode())


def test_a_line_that_was_accepted_is_parsed_on_any_stack() -> None:
    """V1: how deep JSON may be nested depends on the stack, and a lane's may be deeper than the validator's."""
    deep = line(with_raw("[" * 900 + "]" * 900))
    judged: list[list[Violation]] = []
    validator = threading.Thread(
        target=lambda: judged.append(Checker(endpoint=CHAT, find_model=lambda name: CHAT_MODEL).check(deep))
    )
    validator.start()
    validator.join()
    assert judged == [[]]

    def parse_beneath(frames: int) -> bytes:
        return parse_beneath(frames - 1) if frames else parse_request(deep).body

    assert parse_beneath(200).count(b"[") == 900
