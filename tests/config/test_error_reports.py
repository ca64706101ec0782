"""What Django tells of an error, by mail and on the page that DEBUG shows: nothing that opens a door."""

import logging
import sys
from typing import Any
from unittest.mock import patch

import pytest
from django.conf import settings as django_settings
from django.core import mail
from django.test import Client, RequestFactory
from django.utils.log import AdminEmailHandler

from config.error_reports import Reporter, redacted
from tests.operators import signed_in
from tests.tenants import Tenant


def planted(name: str) -> str:
    """Put together, for a report shows the source too."""
    return f"canary{name}0123456789"


KEY = f"sk-{planted('-key-')}"
PASSWORD, DATABASE, UPSTREAM, COOKIE = map(planted, ("-password-", "-database-", "-upstream-", "-cookie-"))
URL = f"postgres://me:{DATABASE}@db.example/name"
SECRETS = (KEY, PASSWORD, DATABASE, UPSTREAM, COOKIE, django_settings.SECRET_KEY)


def fails(presented: str) -> None:
    """With a secret under every kind of name, and in the message."""
    api_key, secrets, where, salt = UPSTREAM, ["x"], URL, django_settings.SECRET_KEY
    raise RuntimeError(f"cannot use {presented} at {where} with {len(api_key + salt)} {secrets}")


def report(request: Any) -> tuple[str, str]:
    try:
        fails(KEY)
    except RuntimeError:
        reporter = Reporter(request, *sys.exc_info())
    return reporter.get_traceback_html(), reporter.get_traceback_text()


@pytest.mark.parametrize("debug", [True, False])
def test_a_report_has_no_secret_in_it(settings: Any, debug: bool) -> None:
    settings.DEBUG = debug
    settings.RQ_QUEUES = {"control": {"URL": f"redis://:{DATABASE}@cache/0"}}
    headers = {"Authorization": f"Bearer {KEY}", "X-Api-Key": KEY, "Cookie": f"sessionid={COOKIE}"}
    request = RequestFactory().post(f"/console/login?key={KEY}", {"password": PASSWORD, "note": KEY}, headers=headers)
    for text in report(request):
        assert [secret for secret in SECRETS if secret in text] == []
        assert "RuntimeError" in text
        assert "cannot use sk-… at postgres://me:…@db.example/name" in text


def test_an_error_mail_has_none_either(settings: Any) -> None:
    settings.ADMINS = [("ada", "ada@example.com")]
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    request = RequestFactory().get("/v1/files", headers={"Authorization": f"Bearer {KEY}"})
    try:
        fails(KEY)
    except RuntimeError:
        record = logging.LogRecord("django.request", logging.ERROR, "x", 1, "broken", (), sys.exc_info())
    record.request = request  # as Django's own logging of errors does
    AdminEmailHandler(include_html=True).emit(record)
    [message] = mail.outbox
    assert isinstance(message, mail.EmailMultiAlternatives)
    sent = message.message().as_string() + str(message.alternatives)
    assert "RuntimeError" in sent
    assert [secret for secret in SECRETS if secret in sent] == []


@pytest.mark.django_db
def test_the_page_of_debug_has_none(settings: Any) -> None:
    settings.DEBUG = True
    client = signed_in()
    client.raise_request_exception = False
    with patch("files_app.console.files.keyset.page", side_effect=lambda *_, **__: fails(KEY)):
        answer = client.get(f"/console/files?q={KEY}", headers={"Authorization": f"Bearer {KEY}"})
    page = answer.content.decode()
    assert answer.status_code == 500
    assert "cannot use sk-…" in page
    assert [secret for secret in (*SECRETS, client.cookies["sessionid"].value) if secret in page] == []


@pytest.mark.django_db
def test_v1_shows_no_report_even_then(settings: Any) -> None:
    """C1: with DEBUG too."""
    settings.DEBUG = True
    tenant = Tenant("acme")
    with patch("billing_app.authentication._find", side_effect=RuntimeError(KEY)):
        answers = [tenant.get("files"), Client(raise_request_exception=False).get("/v1/%ff")]
    for answer in answers:
        assert answer["Content-Type"] == "application/json"
        assert KEY not in answer.content.decode()
        assert "Traceback" not in answer.content.decode()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Authorization: Bearer hf_abc", "Authorization: Bearer …"),
        ("sk-abc is short, sk-abcdefgh is not", "sk-abc is short, sk-… is not"),
        ("redis://:pw@h/0 and https://h:8000/v1", "redis://:…@h/0 and https://h:8000/v1"),
        ("task-force, a risk-averse one", "task-force, a risk-averse one"),
    ],
)
def test_what_is_taken_out(text: str, shown: str) -> None:
    assert redacted(text) == shown
