"""What comes between a request and its view: much for browsers, next to nothing for clients of /v1."""

from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from django.utils import timezone, translation

from config import middleware
from tests.operators import signed_in
from tests.tenants import Tenant

pytestmark = pytest.mark.django_db
CHINESE = {"Accept-Language": "zh-CN,zh;q=0.9,en;q=0.5"}
OF_BROWSERS = {
    "Cache-Control",
    "Content-Language",
    "Content-Security-Policy",
    "Set-Cookie",
    "Vary",
    "X-Frame-Options",
}


def language_of(answer: Any) -> str:
    return str(answer.content.decode().partition('<html lang="')[2].partition('"')[0])


# /v1


@pytest.fixture
def acme() -> Tenant:
    return Tenant("acme")


@pytest.mark.parametrize("path", ["files", "batches", "models", "nothing", "files/x", "files/x/content"])
def test_v1_has_no_header_and_no_cookie_for_browsers(acme: Tenant, path: str) -> None:
    answer = acme.get(path)
    assert OF_BROWSERS & set(answer.headers) == set()
    assert not answer.cookies


def test_v1_asks_neither_session_nor_user_nor_language(acme: Tenant) -> None:
    """Whatever cookies a browser sends along: clients poll it, and each of these costs microseconds."""
    signed_in()
    acme.get("files")  # the key is remembered from now on
    with CaptureQueriesContext(connection) as plain:
        acme.get("files")
    browser = signed_in()
    for name in ("sessionid",):
        acme._client.cookies[name] = browser.cookies[name].value
    acme._client.cookies[settings.LANGUAGE_COOKIE_NAME] = "zh-hans"
    acme._client.cookies[middleware.TIME_ZONE_COOKIE] = "Asia/Shanghai"
    with CaptureQueriesContext(connection) as with_cookies:
        answer = acme.get("files", None, **CHINESE)
    assert [query["sql"] for query in with_cookies] == [query["sql"] for query in plain]
    assert "session" not in str(list(with_cookies))
    assert not hasattr(answer.wsgi_request, "session")
    assert not hasattr(answer.wsgi_request, "LANGUAGE_CODE")
    assert not hasattr(answer.wsgi_request, "htmx")


def test_a_session_opens_nothing_of_v1() -> None:
    assert signed_in().get("/v1/files").status_code == 401


def test_v1_says_its_errors_in_english_also_after_a_page_in_chinese(acme: Tenant) -> None:
    """The thread is the same."""
    assert language_of(Client().get("/console/login", headers=CHINESE)) == "zh-hans"
    assert translation.get_language() in (None, settings.LANGUAGE_CODE)
    assert "No such File object" in acme.get("files/x", None, **CHINESE).json()["error"]["message"]


def test_what_only_begins_like_v1_is_none_of_it() -> None:
    assert "Content-Security-Policy" in Client().get("/v1x").headers


@pytest.mark.parametrize("path", ["/v1", "/v1/nothing", "/console/login", "/console/nothing", "/admin/", "/healthz"])
def test_every_answer_has_an_id_of_its_own(path: str) -> None:
    first, second = (Client().get(path)["x-request-id"] for _ in range(2))
    assert first.startswith("req_")
    assert first != second


# Language


@pytest.mark.parametrize(
    ("header", "cookie", "language"),
    [
        ("", "", "en"),
        ("zh-CN,zh;q=0.9", "", "zh-hans"),
        ("zh-Hans", "", "zh-hans"),
        ("de,zh-CN;q=0.5,en;q=0.1", "", "zh-hans"),
        ("de", "", "en"),
        ("zh-CN", "en", "en"),
        ("en", "zh-hans", "zh-hans"),
        ("zh-CN", "de", "zh-hans"),
        ("x" * 5000, "\0", "en"),
    ],
)
def test_a_page_is_in_the_language_that_was_chosen_or_else_the_browser_s(
    header: str, cookie: str, language: str
) -> None:
    client = Client(headers={"Accept-Language": header})
    if cookie:
        client.cookies[settings.LANGUAGE_COOKIE_NAME] = cookie
    answer = client.get("/console/login")
    assert language_of(answer) == language
    assert answer["Content-Language"] == language
    assert "Accept-Language" in answer["Vary"]


@pytest.mark.parametrize("path", ["/admin/", "/admin/billing_app/account/", "/console/rq/"])
def test_the_admin_and_rq_s_dashboard_are_in_english_always(path: str) -> None:
    client = signed_in()
    client.cookies[settings.LANGUAGE_COOKIE_NAME] = "zh-hans"
    answer = client.get(path, headers=CHINESE)
    assert language_of(answer) == "en"
    assert client.get("/console/files", headers=CHINESE)["Content-Language"] == "zh-hans"


# Time zone


def zone_of(path: str, cookie: str | None) -> str:
    seen: list[str] = []

    def view(request: HttpRequest) -> HttpResponse:
        seen.append(timezone.get_current_timezone_name())
        return HttpResponse()

    request = RequestFactory().get(path)
    if cookie is not None:
        request.COOKIES[middleware.TIME_ZONE_COOKIE] = cookie
    middleware.time_zone(view)(request)
    assert timezone.get_current_timezone_name() == settings.TIME_ZONE  # for the thread's next request
    return seen[0]


@pytest.mark.parametrize(
    ("cookie", "zone"),
    [
        ("Asia/Shanghai", "Asia/Shanghai"),
        ("Europe/Berlin", "Europe/Berlin"),
        (None, "UTC"),
        ("", "UTC"),
        ("Mars/Olympus", "UTC"),
        ("../../etc/passwd", "UTC"),
        ("/etc/localtime", "UTC"),
        ("europe/berlin", "UTC"),
        ("x" * 10_000, "UTC"),
        ("a\0b", "UTC"),
    ],
)
def test_times_are_in_the_viewer_s_zone_or_else_the_installation_s(cookie: str | None, zone: str) -> None:
    assert zone_of("/console/", cookie) == zone


def test_v1_has_no_viewer() -> None:
    assert zone_of("/v1/files", "Asia/Shanghai") == "UTC"


def test_a_view_that_fails_leaves_no_zone_behind() -> None:
    def view(request: HttpRequest) -> HttpResponse:
        raise RuntimeError

    request = RequestFactory().get("/console/")
    request.COOKIES[middleware.TIME_ZONE_COOKIE] = "Asia/Shanghai"
    with pytest.raises(RuntimeError):
        middleware.time_zone(view)(request)
    assert timezone.get_current_timezone_name() == settings.TIME_ZONE


# Sessions


def test_a_page_for_nobody_makes_no_session() -> None:
    answer = Client().get("/console/login")
    assert "sessionid" not in answer.cookies


def test_a_new_password_ends_the_other_sessions() -> None:
    client = signed_in("viewer")
    user = User.objects.get(username="olga")
    user.set_password("another long one")
    user.save()
    assert client.get("/console/files").status_code == 302
