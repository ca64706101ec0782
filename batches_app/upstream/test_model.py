"""`batch-test-model` (MV): built in, no inference, no charge, so that a fresh installation can be tried end to end."""

import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import msgspec

from batches_app.upstream.client import Answer

MODEL = "batch-test-model"


class EchoClient:
    """A `Transport` without an upstream: every request is answered at the next `poll`, with its last user message."""

    def __init__(self) -> None:
        self._answers: list[Answer] = []

    @property
    def in_flight(self) -> int:
        return len(self._answers)

    def send(self, tag: Any, endpoint: str, body: bytes, stream: bool) -> None:
        started = time.monotonic()
        status, answer = _reply(body)
        self._answers.append(
            Answer(
                tag=tag,
                status=status,
                body=msgspec.json.encode(answer),
                content_type="application/json",
                retry_after=None,
                request_id=None,
                fault=None,
                message="" if status == 200 else answer["error"]["message"],
                started=started,
                seconds=time.monotonic() - started,
            )
        )

    def poll(self, timeout: float) -> list[Answer]:
        """Sleeps, as CurlClient does, where nothing is in flight."""
        if not self._answers:
            time.sleep(max(0.0, timeout))
        answers, self._answers = self._answers, []
        return answers

    def abort(self, doomed: Callable[[Any], bool]) -> list[Any]:
        tags = [answer.tag for answer in self._answers if doomed(answer.tag)]
        self._answers = [answer for answer in self._answers if not doomed(answer.tag)]
        return tags

    def close(self) -> None:
        self._answers.clear()


class _Body(msgspec.Struct, gc=False):
    # All else is skipped: six megabytes may hold two million arrays.
    messages: msgspec.Raw = msgspec.Raw(b"null")


_decode = msgspec.json.Decoder(_Body).decode


def tokens(text: str) -> int:
    """The test model's count: a token for every four UTF-8 bytes begun, at least one."""
    return max(1, -(-len(text.encode("utf-8", "replace")) // 4))


def _reply(body: bytes) -> tuple[int, dict[str, Any]]:
    try:
        texts = [(_field(m, "role"), _text(_field(m, "content"))) for m in _messages(body)]
    except msgspec.DecodeError:
        return 400, _error("The body is not valid JSON.", None)
    said = [text for role, text in texts if role == "user"]
    if not texts:
        return 400, _error("Missing required parameter: 'messages'.", "missing_required_parameter")
    if not said:
        return 400, _error("'messages' holds no message with the role 'user'.", "invalid_value")
    return 200, _completion(said[-1], sum(tokens(text) for _, text in texts))


def _messages(body: bytes) -> list[Any]:
    messages = msgspec.json.decode(_decode(body).messages)
    return messages if isinstance(messages, list) else []


def _field(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "".join(_text(_field(part, "text")) for part in content)
    return content if isinstance(content, str) else ""


def _completion(echo: str, prompt_tokens: int) -> dict[str, Any]:
    message = {"role": "assistant", "content": echo, "refusal": None}
    completion_tokens = tokens(echo)
    return {
        "id": f"chatcmpl-{uuid4().hex}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": MODEL,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
        },
    }


def _error(message: str, code: str | None) -> dict[str, Any]:
    param = "messages" if code else None
    return {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}
