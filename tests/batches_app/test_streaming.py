"""Putting streams together."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batches_app.results import examine
from batches_app.streaming import UnusableStream, assemble

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
RESPONSES = "/v1/responses"
DONE = b"data: [DONE]\n\n"


def sse(*chunks: object, done: bool = True) -> bytes:
    return b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks) + DONE * done


def chunk(delta: object = None, finish_reason: str | None = None, index: int = 0, **members: object) -> dict[str, Any]:
    choice = {"index": index, "delta": delta or {}, "finish_reason": finish_reason}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice], **members}


def assembled(stream: bytes, endpoint: str = CHAT) -> dict[str, Any]:
    body = assemble(stream, endpoint)
    assert examine(body)[0]
    found: dict[str, Any] = json.loads(body)
    return found


def message(stream: bytes) -> dict[str, Any]:
    found: dict[str, Any] = assembled(stream)["choices"][0]["message"]
    return found


def test_a_chat_stream_becomes_the_one_object() -> None:
    """R2: the object that the non-streaming call would have given."""
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    stream = sse(
        chunk({"role": "assistant", "content": "", "refusal": None}, system_fingerprint="fp", usage=None),
        chunk({"reasoning_content": "Hm"}, system_fingerprint="fp"),
        chunk({"reasoning_content": "m."}),
        chunk({"content": "Good "}),
        chunk({"content": "day."}, service_tier="default"),
        chunk({}, "stop"),
        {"id": "c", "object": "chat.completion.chunk", "created": 9, "model": "n", "choices": [], "usage": usage},
    )
    text = {"role": "assistant", "content": "Good day.", "refusal": None, "reasoning_content": "Hmm."}
    assert assembled(stream) == {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": text, "finish_reason": "stop", "logprobs": None}],
        "system_fingerprint": "fp",
        "service_tier": "default",
        "usage": usage,
    }


def test_tool_calls_are_joined_by_their_index() -> None:
    """R2: id and name once, however often they are said, arguments concatenated; no index in the whole."""

    def call(index: int, arguments: str, **members: object) -> dict[str, Any]:
        function = {"arguments": arguments, **({"name": "f"} if members else {"name": None})}
        return {"tool_calls": [{"index": index, "function": function, **members}]}

    stream = sse(
        chunk(call(1, "", id="b", type="function")),
        chunk(call(0, '{"x"', id="a", type="function")),
        chunk(call(1, "{}")),
        chunk(call(0, ":1}", id="a", type="function")),
        chunk({}, "tool_calls"),
    )
    assert message(stream) == {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}},
            {"id": "b", "type": "function", "function": {"name": "f", "arguments": "{}"}},
        ],
    }


def test_tool_calls_without_an_index_begin_with_an_id() -> None:
    """R2: some upstreams leave the index out."""
    pieces = [{"id": "a", "function": {"arguments": "1"}}, {"function": {"arguments": "2"}}, {"id": "b"}]
    found = message(sse(*(chunk({"tool_calls": [piece]}) for piece in pieces), chunk({}, "tool_calls")))
    assert found["tool_calls"] == [{"id": "a", "function": {"arguments": "12"}}, {"id": "b"}]


def test_a_function_call_is_joined() -> None:
    """R2: the elder form of a tool call."""
    pieces = [{"name": "f", "arguments": ""}, {"arguments": "{"}, {"arguments": "}"}]
    found = message(sse(*(chunk({"function_call": piece}) for piece in pieces), chunk({}, "function_call")))
    assert found["function_call"] == {"name": "f", "arguments": "{}"}


def test_unknown_members_are_kept() -> None:
    """R2: strings are joined and lists appended in a delta; elsewhere the last that says something stays."""
    first = chunk({"mood": "hap", "notes": [1], "level": 1}, provider="p", seed=1)
    first["choices"][0] |= {"token_ids": [1, 2], "stop_reason": None}
    last = chunk({"mood": "py", "notes": [2], "level": 2}, "stop", provider="p", seed=None)
    last["choices"][0] |= {"token_ids": [3], "stop_reason": "</s>"}
    found = assembled(sse(first, last))
    assert (found["provider"], found["seed"]) == ("p", 1)
    choice = found["choices"][0]
    assert (choice["token_ids"], choice["stop_reason"]) == ([1, 2, 3], "</s>")
    assert {**choice["message"], "role": 0, "content": 0} == {
        "mood": "happy", "notes": [1, 2], "level": 2, "role": 0, "content": 0
    }  # fmt: skip


def test_a_completion_is_joined() -> None:
    """R2: the legacy endpoint has text and logprobs of its own."""

    def piece(text: str, finish_reason: str | None = None, index: int = 0) -> dict[str, Any]:
        logprobs = {"tokens": [text], "token_logprobs": [-0.5], "top_logprobs": None}
        choice = {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish_reason}
        return {"id": "c", "object": "text_completion", "created": 1, "model": "m", "choices": [choice]}

    found = assembled(sse(piece("x", index=1), piece("a"), piece("b", "stop"), piece("y", "length", 1)), COMPLETIONS)
    assert found["object"] == "text_completion"
    assert [choice["text"] for choice in found["choices"]] == ["ab", "xy"]
    assert [choice["finish_reason"] for choice in found["choices"]] == ["stop", "length"]
    assert found["choices"][0]["logprobs"] == {
        "tokens": ["a", "b"], "token_logprobs": [-0.5, -0.5], "top_logprobs": None
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["response.completed", "response.incomplete"])
def test_a_response_is_that_of_its_last_event(kind: str) -> None:
    """R2: /v1/responses sends the whole object at the end."""
    whole = {"id": "resp_1", "object": "response", "usage": {"input_tokens": 1, "output_tokens": 2}, "x": 1.5}
    begin = b'event: response.created\ndata: {"type":"response.created","response":{"id":"resp_1"}}\n\n'
    end = f"event: {kind}\ndata: {json.dumps({'type': kind, 'response': whole})}\n\n".encode()
    assert assembled(begin + end, RESPONSES) == whole


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        (b"", "cut short"),
        (b'data: {"type":"response.created","response":{}}\n\n', "cut short"),
        (b'data: {"type":"response.failed","response":{"error":{"message":"No memory"}}}\n\n', "No memory"),
        (b'event: error\ndata: {"type":"error","message":"Busy"}\n\n', "Busy"),
        (b'data: {"type":"response.completed"}\n\n', "no response"),
        (b"data: {\n\n", "broken"),
    ],
)
def test_a_response_that_failed_is_unusable(stream: bytes, said: str) -> None:
    """R3: an unusable answer is no success."""
    with pytest.raises(UnusableStream, match=said):
        assemble(stream, RESPONSES)


GOOD = sse(chunk({"content": "a"}), chunk({"content": "b"}, "stop"))


@pytest.mark.parametrize(
    "stream",
    [
        GOOD.replace(b"\n", b"\r\n"),
        GOOD.replace(b"\n", b"\r"),
        GOOD.replace(b"data: ", b"data:"),
        b"\xef\xbb\xbf" + GOOD,
        b": ping\n\n" + GOOD.replace(b"data: {", b": ping\nevent: message\nid: 7\nretry: 9\ndata: {"),
        GOOD.replace(b', "choices"', b'\ndata: , "choices"'),
        GOOD.removesuffix(DONE),
        GOOD.removesuffix(DONE).removesuffix(b"\n\n"),
        GOOD.removesuffix(b"\n\n"),
        GOOD + b"data: {nonsense after the end\n\n",
    ],
    ids=["CRLF", "CR", "no space", "BOM", "comments and fields", "lines", "no DONE", "no end", "no last end", "more"],
)
def test_events_are_read_as_the_standard_says(stream: bytes) -> None:
    """R2: whatever a server or proxy makes of the form."""
    assert stream != GOOD
    assert assembled(stream) == assembled(GOOD)


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        (b"", "no choices"),
        (DONE, "no choices"),
        (b'{"id":"plain JSON"}', "no choices"),
        (sse({"id": "c", "choices": []}), "no choices"),
        (sse(chunk({"content": "a"}), done=False), "cut short"),
        (sse(chunk({"content": "a"}, "stop"), chunk({"content": "b"}, index=1), done=False), "cut short"),
        (GOOD[:-30], "cut short"),
        (sse(chunk({"content": "a"}), {"error": {"message": "Out of memory", "code": 500}}), "Out of memory"),
        (sse(chunk({"content": "a"}), {"error": "Busy"}), "Busy"),
        (b'event: error\ndata: {"message":"Broken"}\n\n' + GOOD, "Broken"),
        (b"data: [1]\n\n" + GOOD, "type"),
        (b"data: NaN\n\n" + GOOD, "broken JSON"),
        (b'data: {"a":"\xff"}\n\n' + GOOD, "broken JSON"),
        (b"data: " + b"[" * 100_000 + b"\n\n" + GOOD, "nested"),
        (b"data: " + b'{"a":' * 100_000 + b"\n\n" + GOOD, "nested"),
        (sse({"choices": {"a": 1}}), "choices"),
        (sse({"choices": [1]}), "choice"),
        (sse(chunk([1])), "delta"),
        (sse(chunk({"tool_calls": 1})), "tool_calls"),
        (sse(chunk({"tool_calls": [{"index": "x"}]})), "index"),
        (sse({"choices": [{"index": "x"}]}), "index"),
    ],
)
def test_what_is_not_a_whole_answer_is_unusable(stream: bytes, said: str) -> None:
    """R3: cut short, an error inside, broken: no success, and nothing to bill."""
    with pytest.raises(UnusableStream, match=said):
        assemble(stream, CHAT)


def test_what_the_upstream_calls_done_is_whole() -> None:
    """R2: [DONE] tells the end, also where no finish_reason was given."""
    assert assembled(sse(chunk({"content": "a"})))["choices"][0]["finish_reason"] is None


def test_a_character_cut_in_two_is_whole_again() -> None:
    """R2: upstreams that count in UTF-16 cut an emoji between two deltas."""
    halves = [chunk({"content": "a\ud83d"}), chunk({"content": "\ude00b"}, "stop")]
    assert message(sse(*halves))["content"] == "a\U0001f600b"


def test_big_integers_survive() -> None:
    """R2: numbers are not changed on the way."""
    assert assembled(sse(chunk({"content": "a"}, "stop", seed=10**30)))["seed"] == 10**30


@pytest.mark.parametrize("deep", [200, 900])
def test_deep_deltas_are_whole_or_unusable(deep: int) -> None:
    """R3: never a crash."""
    text = '{"a":' * deep + "1" + "}" * deep
    stream = sse(chunk({}, "stop")).replace(b'"delta": {}', b'"delta": {"x": %b}' % text.encode())
    try:
        assert assemble(stream, CHAT).count(b'"a"') == deep
    except UnusableStream:
        assert deep == 900


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
logprobs = st.none() | st.builds(
    lambda tokens: {"content": tokens, "refusal": None},
    st.lists(st.fixed_dictionaries({"token": texts, "logprob": st.floats(-99, 0)}), min_size=1, max_size=3),
)
calls = st.lists(
    st.builds(
        lambda name, arguments: {"id": name, "type": "function", "function": {"name": name, "arguments": arguments}},
        texts.filter(bool),
        texts,
    ),
    min_size=1,
    max_size=3,
)
messages = st.fixed_dictionaries(
    {"role": st.just("assistant"), "content": st.none() | texts},
    optional={"reasoning_content": texts, "refusal": st.none() | texts, "tool_calls": calls},
)
choices = st.fixed_dictionaries(
    {"message": messages, "logprobs": logprobs, "finish_reason": st.sampled_from(["stop", "length", "tool_calls"])}
)
completions = st.builds(
    lambda choices, extra: {
        "id": "c", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": index, **choice} for index, choice in enumerate(choices)], **extra,
    },
    st.lists(choices, min_size=1, max_size=3),
    st.fixed_dictionaries({}, optional={"system_fingerprint": texts, "usage": st.just({"prompt_tokens": 3})}),
)  # fmt: skip


def pieces_of(draw: st.DrawFn, text: str) -> list[str]:
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=3)))
    return [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]


def deltas_of(draw: st.DrawFn, message: dict[str, Any]) -> list[dict[str, Any]]:
    deltas: list[dict[str, Any]] = [{"role": "assistant"}]
    for name, value in message.items():
        if name == "tool_calls":
            for index, call in enumerate(value):
                begin = {**call, "index": index, "function": {**call["function"], "arguments": ""}}
                rest = pieces_of(draw, call["function"]["arguments"])
                deltas += [{"tool_calls": [begin]}]
                deltas += [{"tool_calls": [{"index": index, "function": {"arguments": piece}}]} for piece in rest]
        elif name != "role":
            deltas += [{name: None}] if value is None else [{name: piece} for piece in pieces_of(draw, value)]
    return deltas


@st.composite
def split_completions(draw: st.DrawFn) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A completion and its chunks, in which those of different choices are mixed."""
    whole = draw(completions)
    head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    queues: list[list[dict[str, Any]]] = []
    for choice in whole["choices"]:
        logs = choice["logprobs"]
        parts = [{"delta": delta, "logprobs": None} for delta in deltas_of(draw, choice["message"])]
        if logs:
            parts += [{"delta": {}, "logprobs": {**logs, "content": [token]}} for token in logs["content"]]
        parts.append({"delta": {}, "finish_reason": choice["finish_reason"]})
        queues.append([{**head, "choices": [{"index": choice["index"], **part}]} for part in parts])
    chunks: list[dict[str, Any]] = []
    while queues := [queue for queue in queues if queue]:
        chunks.append(draw(st.sampled_from(queues)).pop(0))
    extra = {name: whole[name] for name in ("system_fingerprint", "usage") if name in whole}
    return whole, [*chunks, {**head, "choices": [], **extra}]


@settings(max_examples=100)
@given(split_completions(), st.booleans())
def test_any_chat_completion_cut_into_deltas_is_put_together_equal(
    split: tuple[dict[str, Any], list[dict[str, Any]]], done: bool
) -> None:
    """R2: the object that the non-streaming call would have given, whatever the deltas."""
    whole, chunks = split
    assert assembled(sse(*chunks, done=done)) == whole
