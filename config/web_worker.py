"""gunicorn's worker with threads. What it refuses by itself has the shape of all other errors (C1, C2); and a thread is
for a request whose header is here. Else thirty clients that send theirs a byte at a time, or none, would be all that
this service ever serves.
"""

import selectors
import socket
import time
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import Any

import msgspec
from gunicorn.http import errors
from gunicorn.workers.gthread import ThreadWorker

from config.api import ids

_OURS = (errors.InvalidResponseHeader, errors.InvalidResponseHeaderName, errors.ConfigurationProblem)
_STATUS = {
    errors.LimitRequestLine: HTTPStatus.REQUEST_URI_TOO_LONG,
    errors.LimitRequestHeaders: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    errors.ExpectationFailed: HTTPStatus.EXPECTATION_FAILED,
    errors.UnsupportedTransferCoding: HTTPStatus.NOT_IMPLEMENTED,
    errors.ForbiddenProxyRequest: HTTPStatus.FORBIDDEN,
}


HEADER_SECONDS = 10.0  # that the first byte of a connection may take, and a header from its first byte on
HEADER_BYTES = 64 * 1024  # more than gunicorn takes: it is for it to say so
GLANCE = 0.05  # seconds between two looks at headers that are here in part


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn is not annotated
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_part: list[Any] = []  # connections with a part of a header: always readable, so not for the poller

    def enqueue_req(self, conn: Any) -> None:
        """For a new connection, and for one that has become readable."""
        found = self._peek(conn)
        if found is None or b"\r\n\r\n" in found or len(found) == HEADER_BYTES:
            self._hand_over(conn)
            return
        if found:
            conn.header_by = getattr(conn, "header_by", None) or time.monotonic() + HEADER_SECONDS
            self._in_part.append(conn)
        else:
            conn.timeout = time.monotonic() + HEADER_SECONDS
            self.pending_conns.append(conn)
            self.poller.register(conn.sock, selectors.EVENT_READ, partial(self.on_pending_socket_readable, conn))

    def _peek(self, conn: Any) -> bytes | None:
        """Of what has come; None: it has ended, or was read ahead."""
        if conn.initialized and conn.parser.unreader.buf.getvalue():
            return None
        conn.sock.setblocking(False)
        try:
            return conn.sock.recv(HEADER_BYTES, socket.MSG_PEEK) or None
        except BlockingIOError:
            return b""
        except OSError:
            return None

    def _hand_over(self, conn: Any) -> None:
        conn.header_by = None
        conn.data_ready = True  # or the thread would wait for it
        super().enqueue_req(conn)

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        super().wait_for_and_dispatch_events(min(timeout, GLANCE) if self._in_part else timeout)
        if not self.alive:  # who has asked for nothing is not waited for
            for conn in self.pending_conns:
                conn.timeout = 0.0
        waiting, self._in_part = self._in_part, []
        for conn in waiting:
            if time.monotonic() < conn.header_by:
                self.enqueue_req(conn)
            else:
                with suppress(OSError):
                    conn.sock.shutdown(socket.SHUT_RD)  # what is here is all of it
                self._hand_over(conn)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: Exception) -> None:
        """For what never became a request, or never an answer."""
        request_id = ids.request_id()
        if isinstance(exc, errors.ParseException) and not isinstance(exc, _OURS):
            # By its name: what gunicorn says of it repeats lines, and one may have a key in it.
            status, message = _STATUS.get(type(exc), HTTPStatus.BAD_REQUEST), f"Not valid HTTP: {type(exc).__name__}."
            self.log.warning("Refused what is no request, %s: %s", request_id, message)
        else:
            status, message = HTTPStatus.INTERNAL_SERVER_ERROR, "The server had an error."
            self.log.error("A request failed, %s", request_id, exc_info=exc)
        with suppress(OSError):  # nobody may be left to be told
            client.sendall(_answer(status, message, request_id))


def _answer(status: HTTPStatus, message: str, request_id: str) -> bytes:
    kind = "server_error" if status is HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error"
    body = msgspec.json.encode({"error": {"message": message, "type": kind, "param": None, "code": None}})
    lines = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        "Connection: close",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        f"x-request-id: {request_id}",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body
