"""Who is slow, or says nothing at all, costs the others nothing."""

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from config.web.worker import HEAD_SECONDS
from tests.contract.conftest import Server

THREADS = 16
HEADER = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %b\r\n"


@contextmanager
def connected(server: Server, count: int, said: bytes = b"") -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_connection(("127.0.0.1", server.port))) for _ in range(count)]
        for one in sockets:
            one.sendall(said)
        yield sockets


@pytest.mark.parametrize("said", [b"", b"GET /v1/mod", HEADER % b"x", b"\x16\x03\x01", b"GET /" + b"a" * 70_000])
def test_a_hundred_that_never_finish_their_header_keep_nobody_waiting(server: Server, said: bytes) -> None:
    with connected(server, 6 * THREADS, said), server.client().with_options(timeout=4) as client:
        for _ in range(3):
            assert client.models.list().data


def test_those_who_go_on_a_byte_at_a_time_neither(server: Server) -> None:
    with connected(server, 2 * THREADS, b"GET") as slow, server.client().with_options(timeout=4) as client:
        for letter in (b" ", b"/", b"v", b"1"):
            for one in slow:
                one.sendall(letter)
            assert client.models.list().data


def test_a_header_that_comes_in_pieces_is_a_header(server: Server) -> None:
    header = HEADER % server.key("owner").encode() + b"\r\n"
    with connected(server, 1) as (one,):
        one.settimeout(5)
        for number in range(2):  # and the next one on the same connection
            for piece in (header[:30], header[30:-1], header[-1:]):
                one.sendall(piece)
                time.sleep(0.1)
            assert _rest(one).startswith(b"HTTP/1.1 200"), number


def test_a_header_that_does_not_end_is_not_waited_for_for_ever(server: Server) -> None:
    with connected(server, 1, b"GET /v1/models HTTP/1.1\r\n") as (one,):
        one.settimeout(HEAD_SECONDS * 2)
        assert one.recv(100) == b""


UPLOAD = b"POST /v1/files HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %b\r\n"
UPLOAD += b"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 500000000\r\n\r\n--x\r\n"
DOWNLOAD = b"GET /v1/files/%b/content HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %b\r\n\r\n"


def test_a_tenant_whose_uploads_stand_still_keeps_neither_itself_nor_others_waiting(server: Server) -> None:
    said = UPLOAD % server.key("owner").encode()
    with connected(server, 4 * THREADS, said), server.client("stranger").with_options(timeout=4) as stranger:
        for client in (stranger, server.client().with_options(timeout=4)):
            assert client.models.list().data
            assert client.files.create(file=b"{}\n", purpose="batch").id  # small: here at once


def test_many_tenants_whose_uploads_stand_still_neither(server: Server) -> None:
    keys = [server.key(f"slow {tenant}").encode() for tenant in range(6)]
    stranger = server.client("stranger").with_options(timeout=4)
    with ExitStack() as stack:
        for key in keys:
            stack.enter_context(connected(server, THREADS, UPLOAD % key))
        assert stranger.models.list().data


def test_uploads_beyond_a_tenant_s_share_have_their_turn(server: Server) -> None:
    client, data = server.client().with_options(timeout=30), b"{}\n" * 100_000
    with ThreadPoolExecutor(2 * THREADS) as pool:
        made = [pool.submit(client.files.create, file=data, purpose="batch") for _ in range(2 * THREADS)]
        assert {future.result().bytes for future in made} == {len(data)}


def test_those_who_do_not_read_what_they_download_keep_nobody_waiting(server: Server) -> None:
    client = server.client().with_options(timeout=4)
    file = client.files.create(file=b"{}\n" * 5_000_000, purpose="batch")
    said = DOWNLOAD % (file.id.encode(), server.key("owner").encode())
    with connected(server, 4 * THREADS, said):
        assert client.files.retrieve(file.id).bytes == file.bytes
        assert server.client("stranger").with_options(timeout=4).models.list().data


@pytest.mark.parametrize("said", [b"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n", UPLOAD % b"sk-wrong"])
def test_those_who_do_not_leave_after_their_answer_keep_nobody_waiting(server: Server, said: bytes) -> None:
    with connected(server, 4 * THREADS, said), server.client().with_options(timeout=4) as client:
        for _ in range(3):
            assert client.models.list().data


@pytest.mark.parametrize(
    "headers",
    [
        b"Content-Length: 0000000000000000500\r\n",
        b"Content-Length: 900000\r\n",
        b"Content-Length: 900000\r\nAuthorization: Bearer made-up\r\n",
        b"Transfer-Encoding: chunked\r\n",
    ],
)
def test_who_has_no_key_and_a_body_that_does_not_come_keeps_nobody_waiting(server: Server, headers: bytes) -> None:
    said = b"POST /console/login HTTP/1.1\r\nHost: localhost\r\nCookie: csrftoken=" + b"a" * 32 + b"\r\n" + headers
    said += b"Content-Type: application/x-www-form-urlencoded\r\n\r\nx="
    with connected(server, 4 * THREADS, said), server.client().with_options(timeout=4) as client:
        for _ in range(3):
            assert client.models.list().data


def test_one_key_has_one_share_however_its_header_is_spelt(server: Server) -> None:
    said = [
        UPLOAD.replace(b"Bearer ", spelt) % server.key("owner").encode()
        for spelt in (b"bearer  ", b"Bearer\t", b"BEARER ")
    ]
    with ExitStack() as stack:
        for one in said:
            stack.enter_context(connected(server, THREADS, one))
        stranger = server.client("stranger").with_options(timeout=4)
        assert stranger.files.create(file=b"{}\n" * 100_000, purpose="batch").id


def test_who_is_refused_in_mid_upload_hears_why(server: Server) -> None:
    with connected(server, 1, UPLOAD % b"sk-wrong") as (one,):
        for _ in range(100):
            one.sendall(b"x" * 100_000)
        assert one.recv(100).startswith(b"HTTP/1.1 401")


def test_who_waits_for_a_turn_when_the_service_stops_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    server = Server(tmp_path, port)
    server.start()
    try:
        with connected(server, THREADS, UPLOAD % server.key("owner").encode()) as sockets:
            time.sleep(1)
            assert server.process is not None
            server.process.terminate()
            told = [answer for one in sockets if (answer := _rest(one))]
        assert len(told) >= THREADS / 2
        assert all(answer.startswith(b"HTTP/1.1 503") and b"\r\nRetry-After: " in answer for answer in told)
    finally:
        server.stop()


def test_a_body_is_waited_for_a_while_and_then_read_as_it_comes(server: Server) -> None:
    body = b'{"input_file_id": "file-none", "endpoint": "/v1/embeddings", "completion_window": "7h"}'
    head = b"POST /v1/batches HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += b"Authorization: Bearer %b\r\nContent-Length: %d\r\n\r\n" % (server.key("owner").encode(), len(body))
    with connected(server, 1, head + body[:10]) as (one,):
        time.sleep(HEAD_SECONDS + 1)
        one.sendall(body[10:])
        one.settimeout(5)
        assert b"completion_window" in _rest(one)


def _rest(one: socket.socket) -> bytes:
    one.settimeout(5)
    received = b""
    with suppress(TimeoutError, ConnectionError):
        received += one.recv(65_536)
        one.settimeout(0.5)
        while data := one.recv(65_536):
            received += data
    one.settimeout(5)
    return received
