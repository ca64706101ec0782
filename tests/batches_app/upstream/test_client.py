import json
import socket
import threading
import time
from contextlib import closing
from typing import Any

import pytest

from batches_app.upstream.client import Answer, CurlClient, Fault, Limits, Transport
from batches_app.upstream.transfers import Buffer, Transfer
from config.addresses import Policy
from tests.fake_upstream import FakeUpstream, expected_usage

CHAT = "/v1/chat/completions"
MIB = 1024 * 1024


def chat(content: str, **more: Any) -> bytes:
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": content}], **more}).encode()


def client_of(url: str, *, slots: int = 4, api_key: str | None = "sk-secret", **limits: Any) -> CurlClient:
    return CurlClient(url=url, api_key=api_key, slots=slots, limits=Limits(**limits))


def collect(client: Transport, count: int, seconds: float = 8.0) -> list[Answer]:
    answers: list[Answer] = []
    deadline = time.monotonic() + seconds
    while len(answers) < count and time.monotonic() < deadline:
        answers += client.poll(0.5)
    assert len(answers) == count, f"{len(answers)} of {count} answers after {seconds} s"
    return answers


def ask(
    url: str, body: bytes = b"", *, endpoint: str = CHAT, api_key: str | None = "sk-secret", **limits: Any
) -> Answer:
    with closing(client_of(url, api_key=api_key, **limits)) as client:
        client.send("tag", endpoint, body or chat("cid:1 hello"), False)
        return collect(client, 1)[0]


class RawServer:
    """Answers each connection with what `script` says, for what no HTTP server would do."""

    def __init__(self, *answers: bytes) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.answers = answers
        self.thread = threading.Thread(target=self.serve)

    def serve(self) -> None:
        for answer in self.answers:
            connection, _ = self.listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

    def __enter__(self) -> str:
        self.thread.start()
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}/v1"

    def __exit__(self, *_: object) -> None:
        self.thread.join(5)
        self.listener.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


# ---- answers


def test_an_answer_comes_whole_with_its_tag(upstream: FakeUpstream) -> None:
    answer = ask(upstream.url, chat("cid:7 hello there"))
    assert (answer.tag, answer.status, answer.fault, answer.message) == ("tag", 200, None, "")
    assert answer.content_type == "application/json"
    assert answer.request_id == "req_fake"
    assert json.loads(answer.body)["usage"] == expected_usage("cid:7 hello there")
    assert 0 < answer.seconds < 5
    assert 0 < time.monotonic() - answer.started < 10


@pytest.mark.parametrize("style", ["odd", "pretty"])
def test_r1_the_body_is_passed_byte_for_byte(upstream: FakeUpstream, style: str) -> None:
    """R1: odd spacing, 1.0e0, raw non-ASCII and line breaks arrive as they were sent."""
    upstream.control.set(format=style)
    body = ask(upstream.url).body
    assert "é☃🦆".encode() in body
    assert (b'"weight" :  1.0e0' in body) == (style == "odd")
    assert (b"\n" in body) == (style == "pretty")


def test_large_answers_at_once_do_not_add_up_in_memory(upstream: FakeUpstream) -> None:
    """Promise 4: what there is no room for is left with the upstream; each comes whole, and short ones meanwhile."""
    size, room = 8 * MIB, 16 * MIB
    upstream.control.set(fault="huge", bytes=size, match="large")
    held = []
    with closing(client_of(upstream.url, slots=16, buffered_bytes=room)) as client:
        for number in range(12):
            client.send(number, CHAT, chat(f"cid:{number} large"), False)
        for number in range(12, 16):
            client.send(number, CHAT, chat(f"cid:{number} short"), False)
        answers, deadline = list[Answer](), time.monotonic() + 60
        while client.in_flight:
            assert time.monotonic() < deadline
            answers += client.poll(0.01)
            held.append(sum(slot.received for slot in client._busy))
    assert {answer.tag: (answer.status, len(answer.body) >= size) for answer in answers} == {
        number: (200, number < 12) for number in range(16)
    }
    assert max(held) < room + size + MIB
    assert client._buffer._left == room


def test_short_answers_are_read_on_though_nothing_is_left() -> None:
    buffer = Buffer(MIB)
    large, short, other = (Transfer([], Limits(), Policy(), buffer) for _ in range(3))
    assert buffer.take(large, 2 * MIB)
    assert buffer.take(short, 1_000)
    assert not buffer.take(other, 100_000)


@pytest.mark.parametrize(("pieces", "fault"), [(5, None), (12, Fault.TOO_LARGE)])
def test_what_was_not_read_on_comes_whole_or_fails_like_any_other(
    upstream: FakeUpstream, pieces: int, fault: Fault | None
) -> None:
    """Also where it breaks the cap at the moment at which it is read on."""
    size = 700_000 * pieces
    upstream.control.set(fault="bomb", bytes=size, pieces=pieces)
    with closing(client_of(upstream.url, slots=12, max_answer_bytes=4_000_000, buffered_bytes=MIB)) as client:
        for number in range(12):
            client.send(number, CHAT, chat(f"cid:{number}"), False)
        answers = collect(client, 12, seconds=30)
        assert client._buffer._left == MIB
    assert {answer.fault for answer in answers} == {fault}
    assert {answer.body for answer in answers} == {b"" if fault else b" " * size}


@pytest.mark.parametrize("suffix", ["/v1", "/v1/", "", "/"])
def test_the_base_url_may_end_in_v1_or_not(upstream: FakeUpstream, suffix: str) -> None:
    assert ask(upstream.url.removesuffix("/v1") + suffix).status == 200


def test_one_handle_serves_several_endpoints(upstream: FakeUpstream) -> None:
    with closing(client_of(upstream.url, slots=1)) as client:
        for endpoint in (CHAT, "/v1/embeddings", CHAT, "/v1/responses", "/v1/completions"):
            client.send(endpoint, endpoint, b'{"input": "hello", "prompt": "hello"}', False)
            assert collect(client, 1)[0].status == 200
            assert upstream.control.seen()["last"]["path"] == endpoint


def test_the_request_carries_the_key_and_no_expect(upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")  # would be refused if it were heeded
    upstream.control.set(require_key="sk-secret")
    large = chat("x" * 2 * MIB)
    assert ask(upstream.url, large, api_key="sk-secret\n").status == 200
    last = upstream.control.seen()["last"]
    assert last["body"] == large.decode()
    assert last["headers"]["content-type"] == "application/json"
    assert last["headers"]["accept-encoding"].startswith("deflate, gzip")
    assert "expect" not in last["headers"]


def test_a_refused_key_is_an_answer_that_does_not_show_it(upstream: FakeUpstream) -> None:
    upstream.control.set(require_key="sk-other")
    answer = ask(upstream.url)
    assert (answer.status, answer.fault) == (401, None)
    assert "API key" in answer.message
    assert "sk-" not in answer.message


@pytest.mark.parametrize(("key", "told"), [("hf_0123456789", "Wrong key: …"), ("EMPTY", "Wrong key: EMPTY")])
def test_a_refusal_that_repeats_the_key_is_not_passed_on_with_it(upstream: FakeUpstream, key: str, told: str) -> None:
    """It may become an error line."""
    upstream.control.set(status=403, body=f"Wrong key: {key}")
    assert ask(upstream.url, api_key=key).body.decode() == told


def test_r4_retry_after_is_kept_as_it_came(upstream: FakeUpstream) -> None:
    """R4: both forms of Retry-After reach the judge."""
    for value in ("7", "Wed, 21 Oct 2037 07:28:00 GMT"):
        upstream.control.set(status=429, headers={"Retry-After": value})
        answer = ask(upstream.url)
        assert (answer.status, answer.retry_after) == (429, value)


def test_r3_a_failure_keeps_its_body(upstream: FakeUpstream) -> None:
    """R3: status, request id and body of an HTTP failure are there for the error line."""
    upstream.control.set(status=422, body='{"detail": "no"}', headers={"x-request-id": "abc-1"})
    answer = ask(upstream.url)
    assert (answer.status, answer.body, answer.request_id) == (422, b'{"detail": "no"}', "abc-1")


def test_a_redirect_is_not_followed(upstream: FakeUpstream) -> None:
    upstream.control.set(status=307, headers={"Location": upstream.url + "/elsewhere"})
    answer = ask(upstream.url)
    assert answer.status == 307
    assert "redirect" in answer.message
    assert upstream.control.calls() == {"1": 1}


def test_r2_a_stream_is_gathered_whole(upstream: FakeUpstream) -> None:
    """R2: server-sent events, with the usage chunk that was asked for, come as one body."""
    with closing(client_of(upstream.url)) as client:
        client.send(1, CHAT, chat("cid:s hi", stream=True, stream_options={"include_usage": True}), True)
        answer = collect(client, 1)[0]
    assert answer.content_type == "text/event-stream"
    events = [json.loads(e[6:]) for e in answer.body.decode().split("\n\n") if e.startswith("data: {")]
    assert "".join(e["choices"][0]["delta"].get("content", "") for e in events[:-1]) == "echo é☃🦆 cid:s hi"
    assert events[-1]["usage"] == expected_usage("cid:s hi")
    assert answer.body.endswith(b"data: [DONE]\n\n")


# ---- faults


def test_refused_is_connect() -> None:
    answer = ask(f"http://127.0.0.1:{free_port()}/v1")
    assert (answer.status, answer.fault) == (0, Fault.CONNECT)
    assert answer.message.startswith("The upstream could not be reached: ")


@pytest.mark.parametrize(
    "url",
    ["http://no-such-host.invalid/v1", "http://127.0.0.1:99999/v1", "ftp://127.0.0.1/v1", "http://[oops/v1", "", "ö"],
)
def test_a_wrong_address_is_connect(url: str) -> None:
    assert ask(url).fault is Fault.CONNECT


def test_a_failed_tls_handshake_is_connect(upstream: FakeUpstream) -> None:
    assert ask(upstream.url.replace("http:", "https:")).fault is Fault.CONNECT
    assert upstream.control.calls() == {}


def test_a_connect_timeout_is_connect() -> None:
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for filler in (first, second):  # with its backlog full, a listener lets a connection hang
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        answer = ask(f"http://127.0.0.1:{listener.getsockname()[1]}/v1", connect_timeout=0.2)
    assert answer.fault is Fault.CONNECT
    assert answer.seconds < 2


def test_silence_is_a_timeout(upstream: FakeUpstream) -> None:
    upstream.control.set(fault="hang")
    answer = ask(upstream.url, silence_timeout=1.0)
    assert answer.fault is Fault.TIMEOUT
    assert 0.9 < answer.seconds < 9, "libcurl looks at the mean of the last five seconds or so"


def test_a_byte_a_second_is_not_silence_but_too_long_in_all(upstream: FakeUpstream) -> None:
    upstream.control.set(fault="drip")
    answer = ask(upstream.url, silence_timeout=1.0, total_timeout=2.5)
    assert answer.fault is Fault.TIMEOUT
    assert 2.4 < answer.seconds < 4


@pytest.mark.parametrize("fault", ["reset", "drop"])
def test_a_broken_connection_is_a_reset(upstream: FakeUpstream, fault: str) -> None:
    upstream.control.set(fault=fault)
    answer = ask(upstream.url)
    assert (answer.status, answer.fault, answer.body) == (0, Fault.RESET, b"")
    assert upstream.control.calls() == {"1": 1}, "a new connection broke: no silent second try"


def test_an_answer_cut_short_is_a_reset() -> None:
    with RawServer(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{}") as url:
        assert ask(url).fault is Fault.RESET


@pytest.mark.parametrize("chunked", [False, True])
def test_a_huge_answer_is_too_large(upstream: FakeUpstream, chunked: bool) -> None:
    upstream.control.set(fault="huge", bytes=4 * MIB, **({"chunked": True} if chunked else {}))
    answer = ask(upstream.url, max_answer_bytes=MIB)
    assert (answer.fault, answer.body) == (Fault.TOO_LARGE, b"")
    assert str(MIB) in answer.message


def test_the_cap_counts_unpacked_bytes(upstream: FakeUpstream) -> None:
    """A gzip bomb: 64 KB on the wire, 64 MB unpacked."""
    upstream.control.set(fault="bomb", bytes=64 * MIB)
    assert ask(upstream.url, max_answer_bytes=MIB).fault is Fault.TOO_LARGE
    assert len(ask(upstream.url, max_answer_bytes=65 * MIB).body) == 64 * MIB


def test_an_answer_at_the_cap_passes(upstream: FakeUpstream) -> None:
    upstream.control.set(body="x" * 1000)
    assert ask(upstream.url, max_answer_bytes=1000).status == 200
    assert ask(upstream.url, max_answer_bytes=999).fault is Fault.TOO_LARGE


@pytest.mark.parametrize(
    "answer",
    [b"SSH-2.0-OpenSSH_9.6\r\n", b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 7\r\n\r\nnotgzip"],
)
def test_what_is_not_http_is_unusable(answer: bytes) -> None:
    with RawServer(answer) as url:
        assert ask(url).fault is Fault.UNUSABLE


def test_no_message_shows_a_credential() -> None:
    for host in (f"127.0.0.1:{free_port()}", "no-such-host.invalid", "hunter2.invalid"):
        message = ask(f"http://user:hunter2@{host}/v1", api_key="sk-secret").message
        assert "hunter2" not in message
        assert "sk-secret" not in message


# ---- connections


def test_connections_are_reused(upstream: FakeUpstream) -> None:
    with closing(client_of(upstream.url, slots=3)) as client:
        for _ in range(20):
            for tag in range(3):
                client.send(tag, CHAT, chat(f"cid:{tag}"), False)
            assert sorted(a.tag for a in collect(client, 3)) == [0, 1, 2]
        assert upstream.control.seen()["connections"] == 3
    assert upstream.control.calls() == {"0": 20, "1": 20, "2": 20}


@pytest.mark.parametrize("idle_close_ms", [0, 1, 3])
def test_a_connection_closed_while_idle_is_no_failure(upstream: FakeUpstream, idle_close_ms: int) -> None:
    """Sends at the very moment in which the upstream closes: libcurl sends once more, on a new connection."""
    upstream.control.set(idle_close_ms=idle_close_ms)
    with closing(client_of(upstream.url, slots=8)) as client:
        for turn in range(100):
            for slot in range(8):
                client.send((turn, slot), CHAT, chat(f"cid:{turn}-{slot}"), False)
            assert {(a.status, a.message) for a in collect(client, 8)} == {(200, "")}
            time.sleep(idle_close_ms / 1000)
    assert upstream.control.seen()["connections"] > 8


def test_a_pool_of_dead_connections_is_no_failure(upstream: FakeUpstream) -> None:
    """libcurl gives up after five of them; the request then insists, once, on a new connection."""
    with closing(client_of(upstream.url, slots=12)) as client:
        for slot in range(12):
            client.send(slot, CHAT, chat(f"cid:{slot}"), False)
        collect(client, 12)
        upstream.control.set(single_use=True)
        client.send("late", CHAT, chat("cid:late"), False)
        answer = collect(client, 1)[0]
        assert (answer.status, answer.message) == (200, "")
        upstream.control.reset()
        for _ in range(20):
            client.send("again", CHAT, chat("cid:again"), False)
            collect(client, 1)
    seen = upstream.control.seen()
    assert (seen["calls"], seen["connections"]) == ({"again": 20}, 0)


def test_a_dead_connection_before_a_refusal_is_connect() -> None:
    """The upstream went down with our idle connection open: the request was written, but nobody there took it."""
    listener = socket.create_server(("127.0.0.1", 0))
    with closing(client_of(f"http://127.0.0.1:{listener.getsockname()[1]}/v1")) as client:
        client.send(1, CHAT, chat("one"), False)
        client.poll(0.1)
        connection, _ = listener.accept()
        listener.close()
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        assert collect(client, 1)[0].status == 200
        client.send(2, CHAT, chat("two"), False)
        client.poll(0.1)
        connection.recv(65536)
        connection.close()
        assert collect(client, 1)[0].fault is Fault.CONNECT


def test_nothing_of_one_answer_is_left_in_the_next(upstream: FakeUpstream) -> None:
    upstream.control.set(match="first", status=429, headers={"x-request-id": "one", "Retry-After": "5"}, body="x" * 900)
    upstream.control.set(match="second", status=429, headers={"x-request-id": "two"}, body="y" * 900)
    with closing(client_of(upstream.url, slots=1, max_answer_bytes=1000)) as client:
        for content, request_id, retry_after, body in [("first", "one", "5", b"x"), ("second", "two", None, b"y")] * 2:
            client.send(content, CHAT, chat(content), False)
            answer = collect(client, 1)[0]
            assert (answer.request_id, answer.retry_after) == (request_id, retry_after)
            assert answer.body == body * 900


def test_in_flight_never_exceeds_the_slots(upstream: FakeUpstream) -> None:
    upstream.control.set(latency_ms=50)
    with closing(client_of(upstream.url, slots=4)) as client:
        for tag in range(4):
            client.send(tag, CHAT, chat("cid:1"), False)
        assert client.in_flight == 4
        with pytest.raises(RuntimeError, match="4 slots"):
            client.send(9, CHAT, chat("cid:1"), False)
        collect(client, 4)
        assert client.in_flight == 0
    assert upstream.control.in_flight_max() == 4


def test_abort_closes_the_connection_and_frees_the_slot(upstream: FakeUpstream) -> None:
    upstream.control.set(match="stuck", fault="hang")
    with closing(client_of(upstream.url, slots=2)) as client:
        client.send("a", CHAT, chat("cid:a stuck"), False)
        client.send("b", CHAT, chat("cid:b stuck"), False)
        assert client.poll(0.2) == []
        assert upstream.control.seen()["in_flight"] == 2
        assert client.abort(lambda tag: tag == "a") == ["a"]
        assert client.in_flight == 1
        client.send("c", CHAT, chat("cid:c"), False)
        assert [a.tag for a in collect(client, 1)] == ["c"]
        seen = upstream.control.seen()
        assert (seen["dropped"], seen["in_flight"]) == (1, 1)
    time.sleep(0.1)
    assert upstream.control.seen()["dropped"] == 2, "close() cuts what is in flight"


def test_an_answer_that_is_not_wanted_any_more_does_not_appear(upstream: FakeUpstream) -> None:
    upstream.control.set(match="late", latency_ms=100)
    with closing(client_of(upstream.url)) as client:
        client.send("a", CHAT, chat("cid:a late"), False)
        assert client.poll(0.01) == []
        time.sleep(0.15)
        assert client.abort(lambda _: True) == ["a"]
        client.send("b", CHAT, chat("cid:b"), False)
        assert [a.tag for a in collect(client, 1)] == ["b"]


def test_poll_waits_its_time_without_burning_the_cpu(upstream: FakeUpstream) -> None:
    upstream.control.set(fault="hang")
    with closing(client_of(upstream.url)) as client:
        for in_flight in (0, 1):
            began, burnt = time.monotonic(), time.process_time()
            assert client.poll(0.3) == []
            assert time.monotonic() - began >= 0.3
            assert time.process_time() - burnt < 0.1
            if not in_flight:
                client.send(1, CHAT, chat("cid:1"), False)


def test_poll_returns_as_soon_as_one_has_finished(upstream: FakeUpstream) -> None:
    upstream.control.set(match="slow", latency_ms=2000)
    with closing(client_of(upstream.url)) as client:
        client.send("slow", CHAT, chat("cid:1 slow"), False)
        client.send("fast", CHAT, chat("cid:2"), False)
        began = time.monotonic()
        assert [a.tag for a in client.poll(5)] == ["fast"]
        assert time.monotonic() - began < 1


def test_poll_with_no_patience_still_makes_progress(upstream: FakeUpstream) -> None:
    with closing(client_of(upstream.url)) as client:
        client.send(1, CHAT, chat("cid:1"), False)
        deadline = time.monotonic() + 5
        while not (answers := client.poll(0)):
            assert time.monotonic() < deadline
        assert answers[0].status == 200


def test_more_connections_than_select_can_watch(upstream: FakeUpstream) -> None:
    """select(2) does not see descriptors above 1023: this would wait, or spin, for ever."""
    held = [socket.socket() for _ in range(1100)]
    try:
        assert ask(upstream.url).status == 200
    finally:
        for sock in held:
            sock.close()


def test_an_upstream_that_comes_back_is_used_again(upstream: FakeUpstream) -> None:
    with closing(client_of(upstream.url)) as client:
        client.send(1, CHAT, chat("cid:1"), False)
        assert collect(client, 1)[0].status == 200
        upstream.control.refuse(0.5)
        time.sleep(0.1)
        client.send(2, CHAT, chat("cid:1"), False)
        assert collect(client, 1)[0].fault is Fault.CONNECT
        time.sleep(0.6)
        client.send(3, CHAT, chat("cid:1"), False)
        assert collect(client, 1)[0].status == 200
