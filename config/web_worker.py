"""gunicorn's worker with threads. What it refuses by itself has the shape of all other errors (C1, C2)."""

from contextlib import suppress
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


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn is not annotated
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
