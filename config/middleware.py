from collections.abc import Callable
from http import HTTPStatus
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from csp.middleware import CSPMiddleware
from django.conf import settings
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.messages.middleware import MessageMiddleware
from django.contrib.sessions.middleware import SessionMiddleware
from django.core.exceptions import MiddlewareNotUsed
from django.http import HttpRequest, HttpResponseBase, HttpResponsePermanentRedirect
from django.middleware.clickjacking import XFrameOptionsMiddleware
from django.middleware.common import CommonMiddleware
from django.middleware.csrf import CsrfViewMiddleware
from django.middleware.locale import LocaleMiddleware
from django.shortcuts import render
from django.utils import timezone, translation
from django_htmx.middleware import HtmxMiddleware

from config import client_address, logs
from config.access_log import PROBES
from config.api import errors, ids

GetResponse = Callable[[HttpRequest], HttpResponseBase]


def request_id(get_response: GetResponse) -> GetResponse:
    """C2, and the last guard of C1: an error that no view of /v1 made (a wrong Host, a failed rendering) is
    Django's HTML until it comes by here."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        request_id = ids.request_id()
        with logs.only_about(request_id=request_id):
            response = get_response(request)
        if response.status_code >= HTTPStatus.BAD_REQUEST and _is_foreign(request, response):
            response = _enveloped(request, response)
        response["x-request-id"] = request_id
        return response

    return middleware


def _enveloped(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    response.close()
    answer = errors.answer(errors.for_status(response.status_code, request))
    if "Allow" in response:
        answer["Allow"] = response["Allow"]
    return answer


def _is_foreign(request: HttpRequest, response: HttpResponseBase) -> bool:
    return _is_api(request) and response.get("Content-Type") != "application/json"


def _is_api(request: HttpRequest) -> bool:
    return request.path_info == "/v1" or request.path_info.startswith("/v1/")


def https_only(get_response: GetResponse) -> GetResponse:
    """/v1 is not redirected to HTTPS: SDKs would follow, and so send their key in the clear for ever."""
    if not settings.HTTPS:
        raise MiddlewareNotUsed

    def middleware(request: HttpRequest) -> HttpResponseBase:
        if _is_api(request) and not request.is_secure():
            return errors.answer(errors.BadRequest("This service speaks HTTPS alone: use https:// in the base URL."))
        return get_response(request)

    return middleware


class Common(CommonMiddleware):
    """A probe may know this machine by an address that ALLOWED_HOSTS has not. By another name it may not: a page of
    anybody's can have that mean this machine, and have a browser here read what is for this machine alone."""

    def process_request(self, request: HttpRequest) -> HttpResponsePermanentRedirect | None:
        host = request.META.get("HTTP_HOST", "")
        if request.path_info in PROBES and client_address.address_in(host):
            return None
        return super().process_request(request)


class _ForBrowsers:
    """A middleware that /v1 has no use for: clients poll it, and each of these costs microseconds."""

    get_response: Any

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if _is_api(request):
            passed: HttpResponseBase = self.get_response(request)
            return passed
        answer: HttpResponseBase = super().__call__(request)  # type: ignore[misc]  # the middleware that it is mixed into
        return answer


class Sessions(_ForBrowsers, SessionMiddleware):
    pass


class Authentication(_ForBrowsers, AuthenticationMiddleware):
    pass


class Messages(_ForBrowsers, MessageMiddleware):
    pass


class Csrf(_ForBrowsers, CsrfViewMiddleware):
    """/v1 knows no cookies: each of its views is exempt."""


class Framing(_ForBrowsers, XFrameOptionsMiddleware):
    pass


class Htmx(_ForBrowsers, HtmxMiddleware):
    pass


class ContentSecurity(_ForBrowsers, CSPMiddleware):
    pass


class Language(_ForBrowsers, LocaleMiddleware):
    """The browser's language, or the one that was chosen. The admin's and RQ's own texts are English alone, and so is
    the API's reference."""

    def process_request(self, request: HttpRequest) -> None:
        if request.path_info.startswith(("/admin/", "/console/rq/", "/docs")):
            translation.activate("en")
            request.LANGUAGE_CODE = "en"
        else:
            super().process_request(request)

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        answer: HttpResponseBase = super().process_response(request, response)
        translation.deactivate()  # the thread's next request may be one of /v1
        return answer


def wrong_method(get_response: GetResponse) -> GetResponse:
    """A page for who opens the address of a form, which Django answers with nothing."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        if response.status_code != HTTPStatus.METHOD_NOT_ALLOWED or not request.path_info.startswith("/console/"):
            return response
        page = render(request, "console/wrong_method.html", status=HTTPStatus.METHOD_NOT_ALLOWED)
        page["Allow"] = response["Allow"]
        return page

    return middleware


TIME_ZONE_COOKIE = "timezone"
_ZONES = available_timezones()  # once: it looks through folders


def time_zone(get_response: GetResponse) -> GetResponse:
    """Times in the viewer's zone, as console.js finds it; without, in the installation's."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        name = request.COOKIES.get(TIME_ZONE_COOKIE, "")
        if _is_api(request) or name not in _ZONES:
            return get_response(request)
        with timezone.override(ZoneInfo(name)):
            return get_response(request)

    return middleware


def no_store(get_response: GetResponse) -> GetResponse:
    """What the console shows is not for the caches of proxies and shared computers."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        if request.path_info.startswith(("/console/", "/admin/")):
            response.headers.setdefault("Cache-Control", "no-store")
        return response

    return middleware
