"""gunicorn's worker with threads. What it refuses by itself has the shape of all other errors (C1, C2); and a thread is
for a request that is here. Else thirty clients that send theirs a byte at a time, or none, would be all that this
service ever serves.

Uploads and downloads need a thread for as long as their client likes. So they never have all of them, nor one caller
more than a share; who comes later waits for a turn, without a thread.
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

from config import request_heads
from config.api import ids
from config.request_heads import Head
from config.web_turns import Turns

_OURS = (errors.InvalidResponseHeader, errors.InvalidResponseHeaderName, errors.ConfigurationProblem)
_STATUS = {
    errors.LimitRequestLine: HTTPStatus.REQUEST_URI_TOO_LONG,
    errors.LimitRequestHeaders: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    errors.ExpectationFailed: HTTPStatus.EXPECTATION_FAILED,
    errors.UnsupportedTransferCoding: HTTPStatus.NOT_IMPLEMENTED,
    errors.ForbiddenProxyRequest: HTTPStatus.FORBIDDEN,
}


HEAD_SECONDS = 10.0  # that the first byte of a connection may take, and from it on a header, or a body to wait for
HEAD_BYTES = 64 * 1024  # that are waited for; more than gunicorn takes for a header: it is for it to say so
GLANCE = 0.05  # seconds between two looks at what is here in part
FAREWELL_SECONDS, FAREWELL_BYTES = 5.0, 1024 * 1024 * 1024  # that are read and thrown away behind the last answer
RETRY_AFTER = 10  # seconds
NO_TURN = "Too many uploads and downloads at once. Please try again shortly."


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn is not annotated
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_part: list[Any] = []  # connections with a part of a request: always readable, so not for the poller
        self._turns = Turns(self.cfg.threads)
        self._leaving: list[Any] = []

    def enqueue_req(self, conn: Any) -> None:
        """For a new connection, and for one that has become readable."""
        found = self._seen(conn)
        head = request_heads.read(found, HEAD_BYTES) if found else None
        if found == b"":
            conn.timeout = time.monotonic() + HEAD_SECONDS
            self.pending_conns.append(conn)
            self.poller.register(conn.sock, selectors.EVENT_READ, partial(self.on_pending_socket_readable, conn))
        elif found is None or len(found) >= HEAD_BYTES or (head and not head.is_worth_waiting):
            self._begin(conn, head)
        elif not _is_late(conn):
            self._in_part.append(conn)
        else:
            if head is None:
                with suppress(OSError):
                    conn.sock.shutdown(socket.SHUT_RD)  # what is here is all of it
            self._begin(conn, head)

    def _seen(self, conn: Any) -> bytes | None:
        """Of what has come; None: no more will."""
        ahead: bytes = conn.parser.unreader.buf.getvalue() if conn.initialized else b""
        conn.sock.setblocking(False)
        try:
            return ahead + conn.sock.recv(HEAD_BYTES, socket.MSG_PEEK) or None
        except BlockingIOError:
            return ahead
        except OSError:
            return None

    def _begin(self, conn: Any, head: Head | None) -> None:
        conn.head_by = None
        if head is None or not head.is_slow:
            self._hand_over(conn, None)
        elif self._turns.take(head.caller):
            self._hand_over(conn, head.caller)
        elif not self._turns.wait(conn, head.caller, time.monotonic()):
            self._refuse(conn)

    def _hand_over(self, conn: Any, caller: int | None) -> None:
        conn.turn_of = caller
        conn.data_ready = True  # or the thread would wait for it
        super().enqueue_req(conn)

    def _refuse(self, conn: Any) -> None:
        with suppress(OSError):  # which waits for nobody
            conn.sock.send(_answer(HTTPStatus.SERVICE_UNAVAILABLE, NO_TURN, ids.request_id()))
        self._take_leave(conn)

    def _keepalive_after(self, conn: Any, keepalive: bool) -> bool:
        """In a thread, which does not wait for what is left of a body: `_take_leave` does."""
        return keepalive and bool(conn.parser.finish_body(deadline=time.monotonic() + GLANCE))

    def finish_request(self, conn: Any, fs: Any) -> None:
        if conn.turn_of is not None:
            self._turns.give_back(conn.turn_of)
            for waiting, caller in self._turns.due():
                self._hand_over(waiting, caller)
        if fs.cancelled() or fs.exception() or not fs.result():
            self._take_leave(conn)
        else:
            super().finish_request(conn, fs)

    def _take_leave(self, conn: Any) -> None:
        """Of one that may still be sending: to close resets the connection then, and most clients never look at the
        answer (F8, a wrong key …). So the rest is read and thrown away, for a while."""
        try:
            conn.sock.shutdown(socket.SHUT_WR)
            conn.sock.setblocking(False)
            self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._hear_out, conn))
        except OSError:
            self._drop(conn)
            return
        conn.leaves_by, conn.bytes_left = time.monotonic() + FAREWELL_SECONDS, FAREWELL_BYTES
        self._leaving.append(conn)

    def _hear_out(self, conn: Any, sock: Any) -> None:
        try:
            heard = len(sock.recv(HEAD_BYTES))
        except BlockingIOError:
            return
        except OSError:
            heard = 0
        conn.bytes_left -= heard
        if not heard or conn.bytes_left <= 0:
            conn.leaves_by = 0.0
            self._drop_the_late()

    def _drop_the_late(self) -> None:
        now = time.monotonic()
        for conn in [conn for conn in self._leaving if conn.leaves_by <= now]:
            self._leaving.remove(conn)
            self.poller.unregister(conn.sock)
            self._drop(conn)

    def _drop(self, conn: Any) -> None:
        self.nr_conns -= 1
        conn.close()

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        super().wait_for_and_dispatch_events(min(timeout, GLANCE) if self._in_part else timeout)
        if not self.alive:  # who has asked for nothing is not waited for
            for conn in self.pending_conns:
                conn.timeout = 0.0
        in_part, self._in_part = self._in_part, []
        for conn in in_part:
            self.enqueue_req(conn)
        for conn in self._turns.late(time.monotonic()):
            self._refuse(conn)
        self._drop_the_late()

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


def _is_late(conn: Any) -> bool:
    conn.head_by = getattr(conn, "head_by", None) or time.monotonic() + HEAD_SECONDS
    return bool(time.monotonic() >= conn.head_by)


def _answer(status: HTTPStatus, message: str, request_id: str) -> bytes:
    ours = status in (HTTPStatus.INTERNAL_SERVER_ERROR, HTTPStatus.SERVICE_UNAVAILABLE)
    kind = "server_error" if ours else "invalid_request_error"
    body = msgspec.json.encode({"error": {"message": message, "type": kind, "param": None, "code": None}})
    lines = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        "Connection: close",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        f"x-request-id: {request_id}",
        *([f"Retry-After: {RETRY_AFTER}"] if status is HTTPStatus.SERVICE_UNAVAILABLE else []),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body
