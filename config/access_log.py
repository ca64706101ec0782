"""One line for each request: who asked for what, how it ended, and how long that took."""

import logging
import re
import time
from collections.abc import Callable
from http import HTTPStatus

from django.http import HttpRequest, HttpResponseBase

from config import logs

log = logging.getLogger(__name__)

PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})
_BATCH = re.compile(r"/(batch_[0-9a-f]{32})(?:/|$)")


def access_log(get_response: Callable[[HttpRequest], HttpResponseBase]) -> Callable[[HttpRequest], HttpResponseBase]:
    """By route, without a query string: an address may hold anything that somebody took for an id or a search. The
    time is that until the answer begins; what is streamed goes on after it."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        begun = time.perf_counter()
        response = get_response(request)
        milliseconds = round((time.perf_counter() - begun) * 1000, 1)
        status, method = response.status_code, request.method if request.method in _METHODS else "other"
        facts = {"method": method, "route": logs.route_of(request), "status": status, "ms": milliseconds}
        log.log(_level(request, status), "request", extra=facts | _batch_of(request))
        return response

    return middleware


def _level(request: HttpRequest, status: int) -> int:
    """Probes that find all well would be most of the log."""
    return logging.DEBUG if request.path_info in PROBES and status < HTTPStatus.BAD_REQUEST else logging.INFO


def _batch_of(request: HttpRequest) -> dict[str, str]:
    """By its form: in the place of an id, strangers put what they like."""
    found = _BATCH.search(request.path_info)
    return {"batch": found[1]} if found else {}
