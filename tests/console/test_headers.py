"""What every page tells the browser, and the pages that say that something is wrong."""

import re
from typing import Any
from unittest.mock import patch

import pytest
from django.conf import settings
from django.db import DatabaseError, connection
from django.template.loader import render_to_string
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import translation

from config.env import BASE_DIR
from tests import routes
from tests.operators import signed_in
from tests.tenants import Tenant

pytestmark = pytest.mark.django_db
POLICY = {
    "default-src 'self'",
    "object-src 'none'",
    "base-uri 'none'",
    "form-action 'self'",
    "frame-ancestors 'none'",
}
REFUSED = re.compile(r"<style|<script(?![^>]*\bsrc=)|\sstyle=|\son\w+=|javascript:", re.IGNORECASE)
ADMIN = (
    "/admin/",
    "/admin/password_change/",
    "/admin/auth/user/",
    "/admin/auth/user/add/",
    "/admin/auth/user/{user}/change/",
    "/admin/auth/user/{user}/password/",
    "/admin/auth/user/{user}/delete/",
    "/admin/auth/user/{user}/history/",
    "/admin/billing_app/account/add/",
    "/admin/billing_app/account/{account}/change/",
    "/admin/billing_app/account/{account}/credit/",
    "/admin/billing_app/apikey/add/",
    "/admin/billing_app/price/add/",
    "/admin/batches_app/servedmodel/add/",
    "/admin/nothing/",
)


def assert_guarded(answer: Any) -> None:
    assert {part.strip() for part in answer["Content-Security-Policy"].split(";")} == POLICY
    assert answer["X-Frame-Options"] == "DENY"
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Referrer-Policy"] == "same-origin"
    assert answer["Cross-Origin-Opener-Policy"] == "same-origin"
    assert "no-store" in answer["Cache-Control"]


def pages() -> list[str]:
    return [f"/console/{route.pattern}" for route in routes.console() if not route.pattern.converters]


def test_pages_of_the_console_are_guarded_and_have_no_script_or_style_of_their_own() -> None:
    client = signed_in()
    for path in pages():
        answer = client.get(path)
        assert_guarded(answer)
        if answer["Content-Type"].startswith("text/html") and not answer.streaming:
            assert REFUSED.findall(answer.content.decode()) == [], path


@pytest.mark.parametrize("path", ADMIN)
def test_pages_of_the_admin_are_guarded_and_have_no_script_or_style_of_their_own(path: str) -> None:
    client, tenant = signed_in(), Tenant("acme")
    answer = client.get(path.format(user=client.session["_auth_user_id"], account=tenant.account.pk))
    assert answer.status_code in (200, 404)
    assert_guarded(answer)
    assert REFUSED.findall(answer.content.decode()) == []


def test_what_is_refused_or_not_there_is_guarded_too() -> None:
    viewer = signed_in("viewer")
    strict = Client(enforce_csrf_checks=True)
    for answer, status in (
        (viewer.get("/console/nothing"), 404),
        (viewer.get("/console/rq/"), 403),
        (viewer.get("/console/preferences"), 405),
        (strict.post("/console/login"), 403),
        (Client().get("/console/files"), 302),
        (viewer.get("/console/files?colour=red"), 400),
    ):
        assert answer.status_code == status
        assert_guarded(answer)


def test_bytes_that_are_sent_are_not_kept_by_caches_either() -> None:
    file = Tenant("acme").has_file()
    answer = signed_in().get(f"/console/files/{file.public_id}/download")
    assert_guarded(answer)
    answer.getvalue()


# Pages for what is wrong


def test_a_page_that_is_not_there_looks_like_the_others_and_leads_back() -> None:
    viewer = signed_in("viewer")
    for client, path in ((Client(), "/console/nothing"), (viewer, "/nothing"), (viewer, "/admin/nothing/")):
        page = client.get(path).content.decode()
        assert "There is nothing at this address" in page
        assert '<link rel="stylesheet" href="/static/console/console.css">' in page
        assert 'href="/console/"' in page


def test_an_address_that_is_not_there_is_not_repeated_on_its_page() -> None:
    page = Client().get("/console/<script>alert(1)</script>").content.decode()
    assert "alert(1)" not in page


@pytest.fixture
def broken() -> Client:
    """Who sees what a browser sees of an error."""
    client = signed_in("viewer")
    client.raise_request_exception = False
    return client


def test_an_error_of_ours_says_so_and_tells_nothing(broken: Client) -> None:
    with patch("files_app.console.files.keyset.page", side_effect=RuntimeError("sk-secret in <b>here</b>")):
        answer = broken.get("/console/files")
    page = answer.content.decode()
    assert answer.status_code == 500
    assert "Something went wrong here" in page
    assert "secret" not in page
    assert "RuntimeError" not in page
    assert REFUSED.findall(page) == []
    assert_guarded(answer)


def test_it_is_said_in_the_viewer_s_language(broken: Client) -> None:
    with patch("files_app.console.files.keyset.page", side_effect=RuntimeError):
        page = broken.get("/console/files", headers={"Accept-Language": "zh-CN"}).content.decode()
    assert '<html lang="zh-hans"' in page


def test_it_is_said_without_a_database(broken: Client) -> None:
    with patch.object(connection, "cursor", side_effect=DatabaseError("gone")):
        answer = broken.get("/console/files")
    assert answer.status_code == 500
    assert "Something went wrong here" in answer.content.decode()


def test_that_page_asks_for_nothing_at_all() -> None:
    """As Django renders it: without a request, so without what the context processors add."""
    with CaptureQueriesContext(connection) as queries:
        page = render_to_string("500.html")
    assert len(queries) == 0
    assert "{{" not in page
    assert 'href="/"' in page


def test_it_depends_on_no_other_template_of_ours() -> None:
    source = (BASE_DIR / "templates" / "500.html").read_text()
    assert "extends" not in source
    assert "include" not in source


def test_the_page_of_a_lockout_is_in_the_viewer_s_language() -> None:
    signed_in("viewer")
    client = Client(headers={"Accept-Language": "zh-CN"})
    for _ in range(8):
        answer = client.post("/console/login", {"username": "olga", "password": "no"})
    assert answer.status_code == 429
    assert '<html lang="zh-hans"' in answer.content.decode()
    assert_guarded(answer)
    assert translation.get_language() in (None, settings.LANGUAGE_CODE)
