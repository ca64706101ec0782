from collections.abc import Callable
from http import HTTPStatus

from django.http import HttpRequest, HttpResponseBase

from config.api import errors, ids

GetResponse = Callable[[HttpRequest], HttpResponseBase]


def request_id(get_response: GetResponse) -> GetResponse:
    """C2, and the last guard of C1: an error that no view of /v1 made (a wrong Host, a failed rendering) is
    Django's HTML until it comes by here."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        request.request_id = ids.request_id()  # type: ignore[attr-defined]  # ours, for the log
        response = get_response(request)
        if response.status_code >= HTTPStatus.BAD_REQUEST and _is_foreign(request, response):
            response.close()
            response = errors.answer(errors.for_status(response.status_code, request))
        response["x-request-id"] = request.request_id  # type: ignore[attr-defined]  # set above
        return response

    return middleware


def _is_foreign(request: HttpRequest, response: HttpResponseBase) -> bool:
    is_api = request.path_info == "/v1" or request.path_info.startswith("/v1/")
    return is_api and response.get("Content-Type") != "application/json"
