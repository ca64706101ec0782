"""gunicorn's worker with threads. What it refuses by itself has the shape of all other errors (C1, C2); and a thread is
for a request that is here. Else thirty clients that send theirs a byte at a time, or none, would be all that this
service ever serves.

Uploads and downloads need a thread for as long as their client likes. So they never have all of them, nor one caller
more than a share; who comes later waits for a turn, without a thread.
"""

import select
import selectors
import socket
import time
from collections.abc import Hashable
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from math import inf
from typing import Any

import msgspec
from gunicorn.http import errors
from gunicorn.workers.gthread import ThreadWorker

from config.api import ids
from config.roomy import roomy
from config.web import heads
from config.web.heads import Head
from config.web.turns import Turns

_TELLS_HOW_MUCH = (socket.AF_INET, socket.AF_INET6)  # of a Unix socket it is not known how much has come
_OURS = (errors.InvalidResponseHeader, errors.InvalidResponseHeaderName, errors.ConfigurationProblem)
_STATUS = {
    errors.LimitRequestLine: HTTPStatus.REQUEST_URI_TOO_LONG,
    errors.LimitRequestHeaders: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    errors.ExpectationFailed: HTTPStatus.EXPECTATION_FAILED,
    errors.UnsupportedTransferCoding: HTTPStatus.NOT_IMPLEMENTED,
    errors.ForbiddenProxyRequest: HTTPStatus.FORBIDDEN,
}


HEAD_SECONDS = 10.0  # that the first byte of a connection may take, and from it on a header, or a body to wait for
HEAD_BYTES = 64 * 1024  # that are waited for
SILENCE_SECONDS = 60.0  # without a byte, after which a client whose turn it is is taken for gone
ANSWER_SECONDS = 10.0  # that a client may take to read any other answer
FAREWELL_SECONDS, FAREWELL_BYTES = 5.0, 1024 * 1024 * 1024  # that are read and thrown away behind the last answer
GLANCE = 0.5  # seconds between two looks at who is late
RETRY_AFTER = 10  # seconds
NO_TURN = "Too many uploads and downloads at once. Please try again shortly."
TOO_LONG = "Not valid HTTP: the header is longer than 64 KB."


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn is not annotated
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_part: dict[Any, None] = {}
        self._turns = Turns(self.cfg.threads)
        self._leaving: dict[Any, None] = {}
        self._looked_at = 0.0

    def enqueue_req(self, conn: Any) -> None:
        """For a new connection, and for one that has become readable."""
        conn.here_by = getattr(conn, "here_by", None)
        found, has_ended = self._seen(conn)
        head = heads.read(found, HEAD_BYTES)
        if has_ended and not found:
            self._drop(conn)
        elif has_ended or (head and not head.missing) or conn.sock.family not in _TELLS_HOW_MUCH:
            self._begin(conn, head)
        elif head:
            self._await(conn, head.missing, found)
        elif len(found) >= HEAD_BYTES:
            self._refuse(conn, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, TOO_LONG)
        else:
            self._await(conn, 1, found)

    def _seen(self, conn: Any) -> tuple[bytes, bool]:
        """Of what has come, and whether no more will."""
        ahead: bytes = conn.parser.unreader.buf.getvalue() if conn.initialized else b""
        conn.sock.setblocking(False)
        try:
            found = conn.sock.recv(HEAD_BYTES, socket.MSG_PEEK)
        except BlockingIOError:
            return ahead, False
        except OSError:
            return b"", True
        return ahead + found, not found or _has_left(conn.sock)

    def _await(self, conn: Any, least: int, found: bytes) -> None:
        """Until so many bytes more are here: a connection is always readable that has the half of them."""
        here = len(found) - len(conn.parser.unreader.buf.getvalue() if conn.initialized else b"")
        conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, here + least)
        if conn.here_by is None:
            conn.here_by = time.monotonic() + HEAD_SECONDS
        self._in_part[conn] = None
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._on_more, conn))

    def _on_more(self, conn: Any, sock: Any) -> None:
        self._take_out(self._in_part, conn)
        self.enqueue_req(conn)

    def _end_late_heads(self, now: float) -> None:
        for conn in [conn for conn in self._in_part if conn.here_by <= now or not self.alive]:
            self._take_out(self._in_part, conn)
            found, _ = self._seen(conn)
            if head := heads.read(found, HEAD_BYTES):
                self._begin(conn, head)
            else:
                self._take_leave(conn)

    def _begin(self, conn: Any, head: Head | None) -> None:
        caller = (head and head.key) or (conn.client and conn.client[0])
        conn.has_body_to_come = head is None or head.has_body_to_come
        if head and not head.is_slow:
            self._hand_over(conn, None)
        elif self._turns.take(caller):
            self._hand_over(conn, caller)
        elif not (self.alive and self._turns.wait(conn, caller, time.monotonic())):
            self._refuse(conn)

    def _hand_over(self, conn: Any, caller: Hashable | None) -> None:
        if conn.here_by is not None:
            conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
        conn.here_by, conn.turn_of = None, caller
        conn.data_ready = True  # or the thread would wait for it
        super().enqueue_req(conn)

    @roomy
    def handle_request(self, req: Any, conn: Any) -> Any:
        conn.sock.settimeout(ANSWER_SECONDS if conn.turn_of is None else SILENCE_SECONDS)
        if conn.has_body_to_come:
            req.force_close()  # what is left of it may be long: `_take_leave` hears it out, not a thread
        return super().handle_request(req, conn)

    def finish_request(self, conn: Any, fs: Any) -> None:
        if conn.turn_of is not None:
            self._turns.give_back(conn.turn_of)
            self._go_on()
        if fs.cancelled() or fs.exception() or not fs.result():
            self._take_leave(conn)
        else:
            super().finish_request(conn, fs)

    def _go_on(self) -> None:
        """With those who wait for a turn. Of those who have left meanwhile nothing is read."""
        while due := self._turns.due():
            for waiting in due:
                if _has_left(waiting.conn.sock):
                    self._turns.give_back(waiting.caller)
                    self._drop(waiting.conn)
                else:
                    self._hand_over(waiting.conn, waiting.caller)

    def _refuse(self, conn: Any, status: HTTPStatus = HTTPStatus.SERVICE_UNAVAILABLE, message: str = NO_TURN) -> None:
        with suppress(OSError):  # which waits for nobody
            conn.sock.send(_answer(status, message, ids.request_id()))
        self._take_leave(conn)

    def _take_leave(self, conn: Any) -> None:
        """Of one that may still be sending: to close resets the connection then, and most clients never look at the
        answer (F8, a wrong key …). So the rest is read and thrown away, for a while."""
        try:
            conn.sock.setblocking(False)
            conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
            conn.sock.shutdown(socket.SHUT_WR)
            self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._hear_out, conn))
        except (OSError, ValueError, KeyError):
            self._drop(conn)
            return
        conn.leaves_by, conn.bytes_left = time.monotonic() + FAREWELL_SECONDS, FAREWELL_BYTES
        self._leaving[conn] = None

    def _hear_out(self, conn: Any, sock: Any) -> None:
        try:
            heard = len(sock.recv(HEAD_BYTES))
        except BlockingIOError:
            return
        except OSError:
            heard = 0
        conn.bytes_left -= heard
        if not heard or conn.bytes_left <= 0:
            self._take_out(self._leaving, conn)
            self._drop(conn)

    def _drop_those_who_left(self, now: float) -> None:
        for conn in [conn for conn in self._leaving if conn.leaves_by <= now]:
            self._take_out(self._leaving, conn)
            self._drop(conn)

    def _take_out(self, polled: dict[Any, None], conn: Any) -> None:
        del polled[conn]
        self.poller.unregister(conn.sock)

    def _drop(self, conn: Any) -> None:
        self.nr_conns -= 1
        conn.close()

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        super().wait_for_and_dispatch_events(timeout)
        now = time.monotonic()
        if now < self._looked_at + GLANCE:
            return
        self._looked_at = now
        self._end_late_heads(now)
        for waiting in self._turns.late(now if self.alive else inf):
            self._refuse(waiting.conn)
        self._drop_those_who_left(now)

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
            client.settimeout(ANSWER_SECONDS)
            client.sendall(_answer(status, message, request_id))


def _has_left(sock: socket.socket) -> bool:
    """What it has sent is here, and it sends no more."""
    poll = select.poll()
    poll.register(sock, select.POLLRDHUP)
    return bool(poll.poll(0))


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
