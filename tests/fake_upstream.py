"""A scriptable OpenAI-compatible upstream: a real HTTP server in a process of its own, so that a test may stop, kill or
measure its client without sharing an interpreter with it.

    with FakeUpstream(latency_ms=5) as upstream:
        upstream.control.set(match="cid:7", times=2, status=500)   # the first two calls of line 7
        ... upstream.url ...
        assert upstream.control.calls() == {"7": 3}

A call's *marker* is the `abc` of `cid:abc` in its last user message (or input, or prompt). Behaviours are the keys of
`BEHAVIOURS`; `match` (a regex on that content) and `times` (the first k calls of each marker) narrow one down, and of
several that fit the first one set wins. `python tests/fake_upstream.py --help` shows the cheap mode that benches use.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import re
import socket
import struct
import subprocess
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable
from hashlib import blake2b
from statistics import NormalDist
from typing import Any, cast

import httptools
import requests
import uvloop

Behaviour = dict[str, Any]

BEHAVIOURS = {
    "latency_ms": "wait before the answer",
    "heavy_tail": "[median, p99] in ms: a log-normal wait that `heavy_tail_ms` recomputes from the marker",
    "status": "HTTP status of the answer; an OpenAI error unless `body` is given",
    "body": "the answer's body, verbatim",
    "headers": "headers of the answer, also Retry-After or Content-Type",
    "fault": "reset, drop, hang, drip, html, truncated, huge, bomb, sse",
    "bytes": "size of a huge answer, or of a bomb once unpacked",
    "pieces": "in which a bomb comes, one after the other",
    "chunked": "send without a Content-Length",
    "usage": "put in the place of the true usage; `missing` leaves it out",
    "format": "odd (spaces, 1.0e0, raw non-ASCII) or pretty (line breaks)",
    "reasoning": "a reasoning_content for chat answers",
    "require_key": "answer 401 to every other key",
    "idle_close_ms": "close a connection that was idle so long",
    "single_use": "close a connection that is used a second time, and do not read what it brings",
}
_MARKER = re.compile(r"cid:([^\s\"\\]+)")
_MARKER_BYTES = re.compile(rb"cid:([^\s\"\\]+)")
_NORMAL = NormalDist()
_MIB = 1024 * 1024


def marker_of(content: str) -> str:
    found = _MARKER.search(content)
    return found[1] if found else ""


def heavy_tail_ms(marker: str, median: float, p99: float) -> float:
    """The wait (ms) of every call that carries `marker`: log-normal over markers, the same in every process."""
    uniform = (int.from_bytes(blake2b(marker.encode(), digest_size=6).digest(), "big") + 0.5) / 2**48
    return median * math.exp(math.log(p99 / median) * _NORMAL.inv_cdf(uniform) / _NORMAL.inv_cdf(0.99))


def expected_usage(content: str) -> dict[str, Any]:
    """The `usage` that a chat answer to `content` reports, in tokens."""
    prompt, completion = len(content.split()) + 7, len(content) + 1
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": prompt // 2},
        "completion_tokens_details": {"reasoning_tokens": completion // 3},
    }


# ---- what an upstream says


def _content(body: dict[str, Any]) -> str:
    users = [m for m in body.get("messages") or [] if m.get("role") == "user"]
    said = users[-1]["content"] if users else body.get("input", body.get("prompt", ""))
    parts = said if isinstance(said, list) else [said]
    return "".join(p if isinstance(p, str) else str(p.get("text", "")) for p in parts)


def _chat(content: str, behaviour: Behaviour) -> dict[str, Any]:
    message = {"role": "assistant", "content": f"echo é☃🦆 {content}"}
    if "reasoning" in behaviour:
        message["reasoning_content"] = behaviour["reasoning"]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    return {"object": "chat.completion", "choices": [choice], "usage": expected_usage(content)}


def _completion(content: str, _: Behaviour) -> dict[str, Any]:
    choice = {"index": 0, "text": f"echo {content}", "logprobs": None, "finish_reason": "stop"}
    return {"object": "text_completion", "choices": [choice], "usage": expected_usage(content)}


def _embeddings(content: str, _: Behaviour) -> dict[str, Any]:
    prompt = expected_usage(content)["prompt_tokens"]
    data = [{"object": "embedding", "index": 0, "embedding": [0.25, -0.5, 1e-7]}]
    return {"object": "list", "data": data, "usage": {"prompt_tokens": prompt, "total_tokens": prompt}}


def _response(content: str, _: Behaviour) -> dict[str, Any]:
    usage = expected_usage(content)
    text = {"type": "output_text", "text": f"echo {content}", "annotations": []}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [text]}
    renamed = {
        "input_tokens": usage["prompt_tokens"],
        "input_tokens_details": usage["prompt_tokens_details"],
        "output_tokens": usage["completion_tokens"],
        "output_tokens_details": usage["completion_tokens_details"],
        "total_tokens": usage["total_tokens"],
    }
    return {"object": "response", "status": "completed", "output": [message], "usage": renamed}


_ENDPOINTS: dict[str, Callable[[str, Behaviour], dict[str, Any]]] = {
    "/v1/chat/completions": _chat,
    "/v1/completions": _completion,
    "/v1/embeddings": _embeddings,
    "/v1/responses": _response,
}
_MODELS = "/v1/models"


def _object(path: str, body: dict[str, Any], content: str, behaviour: Behaviour) -> dict[str, Any]:
    head = {"id": f"fake-{marker_of(content)}", "created": int(time.time()), "model": body.get("model")}
    answer = head | _ENDPOINTS[path](content, behaviour)
    if "usage" in behaviour:
        answer["usage"] = behaviour["usage"]
    if answer["usage"] == "missing":
        del answer["usage"]
    return answer


def _rendered(answer: dict[str, Any], style: str | None) -> bytes:
    if style == "odd":
        spaced = json.dumps(answer | {"weight": "?"}, ensure_ascii=False, separators=(" , ", " :  "))
        return spaced.replace('"?"', "1.0e0").encode()
    return json.dumps(answer, indent=2 if style == "pretty" else None, ensure_ascii=style != "pretty").encode()


def _error(status: int, message: str = "Scripted failure.") -> bytes:
    code = {401: "invalid_api_key", 429: "rate_limit_exceeded"}.get(status)
    return json.dumps({"error": {"message": message, "type": "fake_error", "param": None, "code": code}}).encode()


def _events(answer: dict[str, Any], include_usage: bool) -> bytes:
    """Server-sent events that amount to `answer`; a comment and a ragged split prove the reader."""
    usage = answer.pop("usage", None)
    if answer["object"] == "response":
        chunks = [{"type": "response.completed", "response": answer | {"usage": usage}}]
    else:
        chunks = [answer | {"object": answer["object"] + ".chunk", "choices": [c]} for c in _deltas(answer)]
        chunks += [answer | {"choices": [], "usage": usage}] if include_usage else []
    lines = [f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n" for chunk in chunks]
    return "".join([": ping\n\n", *lines, "data: [DONE]\n\n"]).encode()


def _deltas(answer: dict[str, Any]) -> list[dict[str, Any]]:
    choice = answer["choices"][0]
    last: dict[str, Any] = {"index": 0, "finish_reason": "stop"}
    if "text" in choice:
        return [{"index": 0, "text": p, "finish_reason": None} for p in _pieces(choice["text"])] + [last | {"text": ""}]
    fields = [(name, choice["message"].get(name, "")) for name in ("reasoning_content", "content")]
    deltas = [{"role": "assistant", "content": ""}] + [{name: p} for name, text in fields for p in _pieces(text)]
    return [{"index": 0, "delta": d, "finish_reason": None} for d in deltas] + [last | {"delta": {}}]


def _pieces(text: str) -> list[str]:
    return [text[i : i + 5] for i in range(0, len(text), 5)]


# ---- the server


class Script:
    """What the tests asked for, and what has been seen since."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.everywhere: Behaviour = {}
        self.rules: list[Behaviour] = []
        self.calls: Counter[str] = Counter()
        self.good: Counter[str] = Counter()
        self.in_flight = self.in_flight_max = self.connections = self.dropped = 0
        self.last: dict[str, Any] = {}

    def set(self, behaviour: Behaviour) -> None:
        unknown = behaviour.keys() - BEHAVIOURS.keys() - {"match", "times"}
        if unknown:
            raise ValueError(f"No such behaviour: {sorted(unknown)}")
        narrowed = "match" in behaviour or "times" in behaviour
        self.rules.append(behaviour) if narrowed else self.everywhere.update(behaviour)

    def begin(self, marker: str) -> None:
        self.calls[marker] += 1
        self.in_flight += 1
        self.in_flight_max = max(self.in_flight, self.in_flight_max)

    def behaviour(self, marker: str, content: str) -> Behaviour:
        for rule in self.rules:
            in_time = self.calls[marker] <= rule.get("times", math.inf)
            if in_time and re.search(rule.get("match", ""), content):
                return self.everywhere | rule
        return self.everywhere

    def seen(self) -> dict[str, Any]:
        names = ("calls", "good", "in_flight", "in_flight_max", "connections", "dropped", "last")
        return {name: getattr(self, name) for name in names}


class Server:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.script = options, Script()
        self.open: set[asyncio.Transport] = set()
        self.port: int = options.port
        self._listener: asyncio.AbstractServer | None = None

    async def listen(self) -> None:
        loop, kind = asyncio.get_running_loop(), Cheap if self.options.cheap else Connection
        self._listener = await loop.create_server(lambda: kind(self), "127.0.0.1", self.port, backlog=4096)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def refuse(self, seconds: float) -> None:
        """As if the upstream's process had died: no listener, and every connection cut."""
        assert self._listener
        self._listener.close()
        for transport in list(self.open):
            transport.abort()
        await asyncio.sleep(seconds)
        await self.listen()

    def order(self, path: str, body: bytes) -> dict[str, Any]:
        if path == "/_control/set":
            self.script.set(json.loads(body))
        elif path == "/_control/calm":
            self.script.rules = []
        elif path == "/_control/reset":
            self.script.reset()
        elif path == "/_control/refuse":
            self.refusal = asyncio.ensure_future(self.refuse(json.loads(body)["seconds"]))
        return self.script.seen()


class Wire(asyncio.Protocol):
    """The part of a connection that all modes share."""

    def __init__(self, server: Server) -> None:
        self.server, self.script = server, server.script
        self.loop = asyncio.get_running_loop()
        self.timer: asyncio.TimerHandle | None = None
        self.busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.server.open.add(self.transport)
        self.script.connections += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self.server.open.discard(self.transport)
        if self.timer:
            self.timer.cancel()
        if self.busy:
            self.script.dropped += 1
            self.finish()

    def later(self, milliseconds: float, what: Callable[..., None], *args: Any) -> None:
        self.timer = self.loop.call_later(milliseconds / 1000, what, *args) if milliseconds else None
        if not self.timer:
            what(*args)

    def finish(self) -> None:
        self.busy = False
        self.script.in_flight -= 1


class Cheap(Wire):
    """For benches: finds the end of a request and the marker, answers with one prepared chat completion."""

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self.buffer = b""
        body = json.dumps(_object("/v1/chat/completions", {"model": "cheap"}, "cheap", {})).encode()
        self.answer = _head(200, {"Content-Type": "application/json", "Content-Length": str(len(body))}) + body
        self.tail: tuple[float, float] | None = server.options.heavy_tail and tuple(server.options.heavy_tail)
        self.fixed: float = server.options.latency_ms

    def data_received(self, data: bytes) -> None:
        self.buffer = data = self.buffer + data if self.buffer else data
        end = data.find(b"\r\n\r\n")
        at = data.lower().find(b"content-length:", 0, end)
        if end < 0 or len(data) < end + 4 + int(data[at + 15 : data.find(b"\r", at)]):
            return
        self.buffer = b""
        found = _MARKER_BYTES.search(data, end)
        marker = found[1].decode() if found else ""
        self.script.begin(marker)
        self.busy = True
        self.later(heavy_tail_ms(marker, *self.tail) if self.tail else self.fixed, self.reply)

    def reply(self) -> None:
        self.finish()
        self.transport.write(self.answer)


class Connection(Wire):
    """The scriptable mode, and the control endpoint."""

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self.parser = httptools.HttpRequestParser(self)
        self.served = False
        self.on_message_begin()

    def on_message_begin(self) -> None:
        self.path, self.headers, self.body = "", dict[str, str](), b""

    def data_received(self, data: bytes) -> None:
        if self.timer and not self.busy:
            self.timer.cancel()
        if self.served and self.script.everywhere.get("single_use"):
            return self.transport.abort()
        self.parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self.path += url.decode()

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode().lower()] = value.decode()

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        if self.path.startswith("/_control"):
            return self.control()
        body = json.loads(self.body) if self.body else {}
        self.asked, self.content = body, _content(body)
        self.marker = marker_of(self.content)
        self.script.begin(self.marker)
        self.busy = True
        self.script.last = {"path": self.path, "headers": self.headers, "body": self.body.decode(errors="replace")}
        self.wanted = self.script.behaviour(self.marker, self.content)
        tail = self.wanted.get("heavy_tail")
        wait = heavy_tail_ms(self.marker, *tail) if tail else self.wanted.get("latency_ms", 0)
        self.later(wait, getattr(self, f"fault_{self.wanted.get('fault', 'none')}"))

    def control(self) -> None:
        try:
            status, answer = 200, self.server.order(self.path, self.body)
        except ValueError as error:
            status, answer = 400, {"error": str(error)}
        self.write(json.dumps(answer).encode(), status)

    def write(self, body: bytes, status: int = 200, headers: dict[str, str] | None = None, cut: int = 0) -> None:
        """Sends the answer; `cut` leaves out so many of its last bytes."""
        head = {"Content-Type": "application/json", "x-request-id": "req_fake"} | (headers or {})
        if not self.path.startswith("/_control"):
            head |= self.wanted.get("headers", {})
            if self.wanted.get("chunked"):
                head["Transfer-Encoding"] = "chunked"
                body = b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in _ragged(body)) + b"0\r\n\r\n"
        if "Transfer-Encoding" not in head:
            head["Content-Length"] = str(len(body))
        self.transport.write(_head(status, head) + body[: len(body) - cut])

    def done(self, body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.write(body, status, headers)
        self.served = True
        self.finish()
        if "idle_close_ms" in self.wanted:
            self.later(self.wanted["idle_close_ms"], self.transport.close)

    def usual(self) -> bytes:
        answer = _object(self.path, self.asked, self.content, self.wanted)
        return _rendered(answer, self.wanted.get("format"))

    def fault_none(self) -> None:
        key, status = self.wanted.get("require_key"), self.wanted.get("status", 200)
        if key and self.headers.get("authorization") != f"Bearer {key}":
            self.done(_error(401, "Incorrect API key provided."), 401)
        elif self.path == _MODELS and status < 300:
            self.done(json.dumps({"object": "list", "data": [{"id": "fake", "object": "model"}]}).encode())
        elif self.path not in (_MODELS, *_ENDPOINTS):
            self.done(_error(404, f"Invalid URL (POST {self.path})"), 404)
        elif "body" in self.wanted or status >= 300:
            self.done(self.wanted["body"].encode() if "body" in self.wanted else _error(status), status)
        elif self.asked.get("stream"):
            self.fault_sse(bool((self.asked.get("stream_options") or {}).get("include_usage")))
        else:
            self.script.good[self.marker] += 1
            self.done(self.usual(), status)

    def fault_sse(self, include_usage: bool = True) -> None:
        self.script.good[self.marker] += 1
        self.wanted = self.wanted | {"chunked": True}
        answer = _object(self.path, self.asked, self.content, self.wanted)
        self.done(_events(answer, include_usage), headers={"Content-Type": "text/event-stream"})

    def fault_html(self) -> None:
        self.done(b"<html><body>Welcome to nginx!</body></html>", headers={"Content-Type": "text/html"})

    def fault_truncated(self) -> None:
        body = self.usual()
        self.done(body[: len(body) // 2])

    def fault_huge(self) -> None:
        left = self.wanted.get("bytes", 32 * _MIB)
        self.transport.write(_head(200, {"Content-Type": "application/json", "Content-Length": str(left)}))
        self.pour(b'{"filler": "', left)

    def pour(self, piece: bytes, left: int) -> None:
        """As fast as it is read, and no more than that in memory."""
        if self.transport.is_closing():
            return
        if self.transport.get_write_buffer_size() < _MIB:
            piece = piece[:left]
            self.transport.write(piece)
            left -= len(piece)
        self.later(1, self.pour, b"x" * _MIB, left) if left else self.finish()

    def fault_bomb(self) -> None:
        packer, pieces = zlib.compressobj(wbits=31), self.wanted.get("pieces", 1)
        piece = b" " * (self.wanted.get("bytes", 64 * _MIB) // pieces)
        packed = [packer.compress(piece) + packer.flush(zlib.Z_SYNC_FLUSH) for _ in range(pieces)]
        packed[-1] += packer.flush()
        whole = b"".join(packed)
        self.write(whole, headers={"Content-Encoding": "gzip"}, cut=len(whole))
        self.send_on(packed)

    def send_on(self, pieces: list[bytes]) -> None:
        if self.transport.is_closing():
            return
        self.transport.write(pieces.pop(0))
        if pieces:
            self.later(50, self.send_on, pieces)
        else:
            self.finish()

    def fault_hang(self) -> None:
        """Never answers; `busy` stays true until the client goes."""

    def fault_drop(self) -> None:
        self.finish()
        self.transport.abort()

    def fault_reset(self) -> None:
        self.write(self.usual(), cut=20)
        linger = struct.pack("ii", 1, 0)
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.finish()
        self.later(20, self.transport.abort)

    def fault_drip(self) -> None:
        body = self.usual()
        self.write(body, cut=len(body))
        self.drip(body)

    def drip(self, rest: bytes) -> None:
        self.transport.write(rest[:1])
        self.later(1000, self.drip, rest[1:]) if rest[1:] else self.finish()


class ControlConnection(Connection):
    """On the control port: neither counted nor cut."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)


def _ragged(body: bytes) -> list[bytes]:
    step = max(37, len(body) // 50)
    return [body[i : i + step] for i in range(0, len(body), step)]


def _head(status: int, headers: dict[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} Whatever", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode()


async def _serve(options: argparse.Namespace) -> None:
    server, loop = Server(options), asyncio.get_running_loop()
    await server.listen()
    # A port of its own: the control endpoint answers while the upstream refuses connections.
    control = await loop.create_server(lambda: ControlConnection(server), "127.0.0.1", options.control_port)
    ports = {"url": server.port, "control": control.sockets[0].getsockname()[1]}
    print(json.dumps({k: f"http://127.0.0.1:{p}" for k, p in ports.items()} | {"cheap": options.cheap}), flush=True)
    if options.until_eof:
        await loop.run_in_executor(None, sys.stdin.read)
    else:
        await asyncio.Event().wait()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="A fake OpenAI-compatible upstream on 127.0.0.1.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--control-port", type=int, default=0)
    parser.add_argument("--cheap", action="store_true", help="one prepared answer, minimal parsing")
    parser.add_argument("--latency-ms", type=float, default=0.0, help="cheap mode: wait before each answer")
    parser.add_argument("--heavy-tail", type=float, nargs=2, metavar=("MEDIAN", "P99"), help="cheap mode: ms")
    parser.add_argument("--until-eof", action="store_true", help="stop when stdin ends, so also when the parent dies")
    return parser.parse_args()


# ---- the tests' side


class Control:
    """Sets behaviours and reads counters of a running fake upstream."""

    def __init__(self, address: str) -> None:
        self._address = address

    def _ask(self, order: str, **body: Any) -> dict[str, Any]:
        with requests.Session() as session:
            session.trust_env = False  # a test may have set http_proxy
            answer = session.post(f"{self._address}/_control/{order}", json=body, timeout=10)
        if not answer.ok:
            raise ValueError(answer.json()["error"])
        return cast(dict[str, Any], answer.json())

    def set(self, **behaviour: Any) -> None:
        """Sets behaviours for all calls, or, with `match` or `times`, adds a rule for some."""
        self._ask("set", **behaviour)

    def refuse(self, seconds: float) -> None:
        """Cuts every connection and refuses new ones; the same port listens again after `seconds`."""
        self._ask("refuse", seconds=seconds)

    def reset(self) -> None:
        self._ask("reset")

    def calm(self) -> None:
        """Drops the rules that `match` or `times` made, and nothing else."""
        self._ask("calm")

    def seen(self) -> dict[str, Any]:
        """calls, good (answers, by marker), in_flight, in_flight_max, connections (opened), dropped (by the client, in
        mid-request), last."""
        return self._ask("seen")

    def calls(self) -> dict[str, int]:
        return cast(dict[str, int], self.seen()["calls"])

    def in_flight_max(self) -> int:
        return int(self.seen()["in_flight_max"])


class FakeUpstream:
    """`url` ends with /v1, as an operator would enter it. `options` are command-line options, such as `--cheap`."""

    def __init__(self, *options: str, **behaviour: Any) -> None:
        self._options, self._behaviour = options, behaviour

    def __enter__(self) -> FakeUpstream:
        command = [sys.executable, __file__, "--until-eof", *self._options]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout
        addresses = json.loads(self.process.stdout.readline())
        self.url, self.control = addresses["url"] + "/v1", Control(addresses["control"])
        if self._behaviour:
            self.control.set(**self._behaviour)
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.process.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()


if __name__ == "__main__":
    uvloop.run(_serve(_options()))
