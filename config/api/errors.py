"""Every error of /v1, and the one shape in which it leaves (C1).

ApiError
├── BadRequest 400
│   ├── MissingParameter
│   ├── InvalidValue
│   └── InvalidType
├── InvalidKey 401
├── QuotaExceeded 403
├── NotFound 404
├── Conflict 409
├── RateLimited 429        (waiting helps)
├── OutOfFunds 429         (waiting does not)
├── ServerError 500
└── Unavailable 503
"""

import errno
import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from rest_framework import exceptions as drf

from config import logs
from config.outages import DATABASE_AWAY

logger = logging.getLogger(__name__)

QUOTE_LENGTH = 200  # characters of a bad value that a message repeats
DATABASE_RETRY_AFTER = 5  # seconds
STORE_AWAY = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EPERM, errno.EACCES, errno.EIO),
    *(errno.ESTALE, errno.ENOTCONN, errno.EMFILE, errno.ENFILE),
}
TYPE_NAMES = {
    dict: "an object",
    list: "an array",
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    type(None): "null",
}


class ApiError(Exception):
    status: int = HTTPStatus.INTERNAL_SERVER_ERROR
    type = "invalid_request_error"
    code: str | None = None
    headers: Mapping[str, str] = {}

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code or self.code
        self.headers = {**self.headers, **(headers or {})}


class BadRequest(ApiError):
    status = HTTPStatus.BAD_REQUEST


class MissingParameter(BadRequest):
    code = "missing_required_parameter"

    def __init__(self, param: str) -> None:
        super().__init__(f"Missing required parameter: '{param}'.", param=param)


class InvalidValue(BadRequest):
    code = "invalid_value"

    def __init__(self, param: str, value: object, supported: str) -> None:
        super().__init__(f"Invalid value: '{quoted(value)}'. Supported values are: {supported}.", param=param)


class InvalidType(BadRequest):
    code = "invalid_type"

    def __init__(self, param: str, value: object, expected: type) -> None:
        got = TYPE_NAMES.get(type(value), "another type")
        super().__init__(
            f"Invalid type for '{param}': expected {TYPE_NAMES[expected]}, but got {got} instead.", param=param
        )


class InvalidKey(ApiError):
    status = HTTPStatus.UNAUTHORIZED
    code = "invalid_api_key"
    headers = {"WWW-Authenticate": "Bearer"}


class QuotaExceeded(ApiError):
    status = HTTPStatus.FORBIDDEN
    type = "insufficient_quota"
    code = "quota_exceeded"


class NotFound(ApiError):
    status = HTTPStatus.NOT_FOUND


class Conflict(ApiError):
    status = HTTPStatus.CONFLICT
    headers = {"x-should-retry": "false"}  # C4: SDKs would repeat a 409


class RateLimited(ApiError):
    status = HTTPStatus.TOO_MANY_REQUESTS
    type = "requests"
    code = "rate_limit_exceeded"

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message, headers={"Retry-After": str(retry_after)})


class OutOfFunds(ApiError):
    status = HTTPStatus.TOO_MANY_REQUESTS
    type = "insufficient_quota"
    code = "insufficient_quota"
    headers = {"x-should-retry": "false"}  # C4: waiting will not cure it


class ServerError(ApiError):
    type = "server_error"


class Unavailable(ServerError):
    status = HTTPStatus.SERVICE_UNAVAILABLE
    headers = {"Retry-After": str(DATABASE_RETRY_AFTER)}


def quoted(value: object) -> str:
    text = str(value)
    return text if len(text) <= QUOTE_LENGTH else f"{text[:QUOTE_LENGTH]}…"


def answer(error: ApiError) -> HttpResponse:
    body = {"message": _encodable(error.message), "type": error.type, "param": error.param, "code": error.code}
    return HttpResponse(
        msgspec.json.encode({"error": body}),
        status=error.status,
        content_type="application/json",
        headers=dict(error.headers),
    )


def envelope_handler(exc: Exception, context: dict[str, Any]) -> HttpResponse:
    """DRF's EXCEPTION_HANDLER: nothing that a view raises gets past it."""
    request: HttpRequest = context["request"]
    error = as_api_error(exc, request)
    if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR and error is not exc:  # not one that was said on purpose
        logger.error("%s %s failed.", request.method, logs.route_of(request), exc_info=exc)
    return answer(error)


@csrf_exempt
def unknown_url(request: HttpRequest) -> HttpResponse:
    return answer(_unknown_url(request))


def for_status(status: int, request: HttpRequest) -> ApiError:
    """For an answer that Django gave instead of a view."""
    if status == HTTPStatus.NOT_FOUND:
        return _unknown_url(request)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return _server_error()
    return _with_status(status, f"{HTTPStatus(status).phrase}.")


def as_api_error(exc: Exception, request: HttpRequest) -> ApiError:
    match exc:
        case ApiError():
            return exc
        case drf.Throttled():
            return RateLimited(
                "Rate limit reached. Please try again later.", retry_after=int(getattr(exc, "wait", None) or 1)
            )
        case drf.NotAuthenticated() | drf.AuthenticationFailed():
            return InvalidKey(str(exc.detail))
        case drf.MethodNotAllowed():
            return _with_status(exc.status_code, f"Not allowed to {request.method} on {quoted(request.path)}.")
        case drf.APIException():
            return _with_status(exc.status_code, quoted(exc.detail))
        case Http404():
            return _unknown_url(request)
        case PermissionDenied():
            return _with_status(HTTPStatus.FORBIDDEN, "You may not do that.")
        case SuspiciousOperation():
            return BadRequest("The request could not be read.")
        case _ if isinstance(exc, DATABASE_AWAY):
            return Unavailable("The service cannot reach its database. Please try again shortly.")
        case OSError() if exc.errno in STORE_AWAY:
            return Unavailable("The service cannot store files at the moment. Please try again shortly.")
    return _server_error()


def _with_status(status: int, message: str) -> ApiError:
    error = ApiError(message)
    error.status = status
    return error


def _unknown_url(request: HttpRequest) -> ApiError:
    return NotFound(f"Invalid URL ({request.method} {quoted(request.path)})")


def _server_error() -> ApiError:
    return ServerError("The server had an error while processing your request. Sorry about that!")


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
