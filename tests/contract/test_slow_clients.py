"""Who is slow, or says nothing at all, costs the others nothing."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from config.web_worker import HEADER_SECONDS
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


@pytest.mark.parametrize("said", [b"", b"GET /v1/mod", HEADER % b"x", b"\x16\x03\x01"])
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
            assert one.recv(100).startswith(b"HTTP/1.1 200"), number
            _read_away(one)


def test_a_header_that_does_not_end_is_not_waited_for_for_ever(server: Server) -> None:
    with connected(server, 1, b"GET /v1/models HTTP/1.1\r\n") as (one,):
        one.settimeout(HEADER_SECONDS * 2)
        assert one.recv(100) == b""


def _read_away(one: socket.socket) -> None:
    one.settimeout(0.5)
    try:
        while one.recv(65_536):
            pass
    except TimeoutError:
        one.settimeout(5)
