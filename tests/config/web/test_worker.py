"""What gunicorn refuses by itself. (Over real sockets: tests/corpus.)"""

import json
import socket
from typing import Any
from unittest.mock import Mock

import pytest
from gunicorn.http import errors

from config.web.worker import Worker


def told(error: Exception) -> tuple[int, dict[str, str], dict[str, Any], Mock]:
    """Status, headers and body of the answer, and what was logged."""
    ours, theirs = socket.socketpair()
    worker = Mock(spec=["log"])
    with ours, theirs:
        Worker.handle_error(worker, None, ours, ("127.0.0.1", 1), error)
        head, _, body = theirs.recv(65_536).partition(b"\r\n\r\n")
    start, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ") for line in lines)
    assert int(headers["Content-Length"]) == len(body)
    return int(start.split()[1]), headers, json.loads(body)["error"], worker.log


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.InvalidRequestLine("x"), 400),
        (errors.InvalidHeader("x"), 400),
        (errors.InvalidChunkSize("x"), 400),
        (errors.LimitRequestLine(5_000, 4_094), 414),
        (errors.LimitRequestHeaders("x"), 431),
        (errors.ExpectationFailed("x"), 417),
        (errors.UnsupportedTransferCoding("x"), 501),
    ],
)
def test_what_is_no_request_has_the_envelope(error: Exception, status: int) -> None:
    """C1, C2"""
    found, headers, body, _ = told(error)
    assert (found, body["type"], headers["Connection"]) == (status, "invalid_request_error", "close")
    assert set(body) == {"message", "type", "param", "code"}
    assert type(error).__name__ in body["message"]
    assert headers["Content-Type"] == "application/json"
    assert headers["x-request-id"].startswith("req_")


def test_a_key_in_a_broken_header_is_neither_repeated_nor_logged() -> None:
    _, headers, body, log = told(errors.InvalidHeader("Authorization Bearer sk-secret"))
    assert "secret" not in body["message"]
    assert "secret" not in str(log.mock_calls)
    assert headers["x-request-id"] in str(log.mock_calls)


@pytest.mark.parametrize("error", [RuntimeError("secret"), errors.InvalidResponseHeader("secret")])
def test_a_fault_of_ours_is_logged_and_not_told(error: Exception) -> None:
    status, _, body, log = told(error)
    assert (status, body["type"]) == (500, "server_error")
    assert "secret" not in body["message"]
    assert log.error.call_args.kwargs["exc_info"] is error


def test_nobody_may_be_left_to_be_told() -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    with ours:
        Worker.handle_error(Mock(spec=["log"]), None, ours, None, errors.InvalidHeader("x"))
