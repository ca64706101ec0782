import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batches_app.upstream.client import Answer, CurlClient, Limits, Transport
from batches_app.upstream.retry import Verdict, judge
from batches_app.upstream.test_model import EchoClient, tokens

ENDPOINT = "/v1/chat/ds-test"


def ask(body: Any) -> Answer:
    client = EchoClient()
    client.send("tag", ENDPOINT, body if isinstance(body, bytes) else json.dumps(body).encode(), False)
    (answer,) = client.poll(10)
    return answer


def said(content: Any, role: str = "user") -> dict[str, Any]:
    return {"role": role, "content": content}


def test_it_echoes_the_last_user_message() -> None:
    before = int(time.time())
    answer = ask({"model": "batch-test-model", "messages": [said("one"), said("two", "assistant"), said("three ☃")]})
    assert (answer.tag, answer.status, answer.fault, answer.message) == ("tag", 200, None, "")
    body = json.loads(answer.body)
    assert body["id"].startswith("chatcmpl-")
    assert before <= body["created"] <= time.time()
    assert (body["object"], body["model"]) == ("chat.completion", "batch-test-model")
    (choice,) = body["choices"]
    assert choice["message"] == {"role": "assistant", "content": "three ☃", "refusal": None}
    assert choice["finish_reason"] == "stop"
    assert body["usage"] == {"prompt_tokens": 1 + 1 + 3, "completion_tokens": 3, "total_tokens": 8}


def test_text_parts_are_joined_and_others_left_out() -> None:
    parts = [{"type": "text", "text": "a "}, {"type": "image_url", "image_url": {"url": "data:"}}, {"text": "b"}]
    assert json.loads(ask({"messages": [said(parts)]}).body)["choices"][0]["message"]["content"] == "a b"


def test_a_stream_is_answered_as_one_object() -> None:
    assert ask({"stream": True, "messages": [said("hi")]}).content_type == "application/json"


_NOTHING: tuple[Any, ...] = (None, [], "hi", {}, [1, None])


NOT_MESSAGES: list[Any] = [None, [], "hi", {}, [1, None]]


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"\xff", {}, [], 7),
        *({"messages": nothing} for nothing in _NOTHING),
        *({"messages": [said("x", role)]} for role in ("system", "assistant", "User")),
        {"messages": [{"role": ["user"], "content": "x"}]},
    ],
)
def test_without_a_user_message_it_is_a_400(body: Any) -> None:
    answer = ask(body)
    assert answer.status == 400
    assert judge(answer) is Verdict.FAILED
    error = json.loads(answer.body)["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert answer.message == error["message"] != ""


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["text", "role"]), inner, max_size=3),
    max_leaves=8,
)


@given(content=_JSON, role=st.sampled_from(["user", "system"]) | _JSON)
def test_nothing_makes_it_raise(content: Any, role: Any) -> None:
    answer = ask({"messages": [{"role": role, "content": content}]})
    assert answer.status == (200 if role == "user" else 400)
    json.loads(answer.body.decode())


@pytest.mark.parametrize(("text", "count"), [("", 1), ("abcd", 1), ("abcde", 2), ("☃☃", 2)])
def test_a_token_is_four_bytes(text: str, count: int) -> None:
    assert tokens(text) == count


def test_abort_drops_what_is_in_flight() -> None:
    client = EchoClient()
    for tag in range(4):
        client.send(tag, ENDPOINT, b"{}", False)
    assert client.in_flight == 4
    assert client.abort(lambda tag: tag % 2 == 0) == [0, 2]
    assert [answer.tag for answer in client.poll(0)] == [1, 3]
    assert client.in_flight == 0


def test_with_nothing_in_flight_poll_sleeps_as_the_real_one_does() -> None:
    """The lane's loop waits in `poll`; one that returned at once would spin."""
    began = time.monotonic()
    assert EchoClient().poll(0.1) == []
    assert time.monotonic() - began >= 0.1


def test_both_clients_are_transports() -> None:
    curl = CurlClient(url="http://127.0.0.1:1", api_key=None, slots=1, limits=Limits())
    transports: list[Transport] = [EchoClient(), curl]
    for transport in transports:
        assert transport.in_flight == 0
        transport.close()
        transport.close()
