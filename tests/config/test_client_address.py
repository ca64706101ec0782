"""The client's address, whatever the client claims it to be."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client, RequestFactory

from billing_app import audit
from config import client_address
from tests.operators import signed_in

PROXY = "10.0.0.1"
CLIENT = "203.0.113.9"


def address(forwarded: str | None) -> str:
    headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}
    return client_address.of(RequestFactory(REMOTE_ADDR=PROXY, headers=headers).get("/"))


@pytest.mark.parametrize(
    ("proxies", "forwarded", "found"),
    [
        (0, None, PROXY),
        (0, CLIENT, PROXY),
        (1, CLIENT, CLIENT),
        (1, f"1.1.1.1, {CLIENT}", CLIENT),
        (1, f"1.1.1.1,2.2.2.2,{CLIENT}", CLIENT),
        (2, f"{CLIENT}, 10.0.0.7", CLIENT),
        (2, f"1.1.1.1, {CLIENT}, 10.0.0.7", CLIENT),
        (2, CLIENT, PROXY),
        (1, None, PROXY),
        (1, "", PROXY),
        (1, "unknown", PROXY),
        (1, "<script>", PROXY),
        (1, f"{CLIENT}:4711", CLIENT),
        (1, "2001:DB8:0::1", "2001:db8::1"),
        (1, "[2001:db8::1]:4711", "2001:db8::1"),
        (1, "192.168.1.4", "192.168.1.4"),
    ],
)
def test_it_is_what_the_outermost_trusted_proxy_was_asked_by(
    settings: Any, proxies: int, forwarded: str | None, found: str
) -> None:
    """What a client has put before that is its invention."""
    settings.TRUSTED_PROXIES = proxies
    assert address(forwarded) == found


def test_the_audit_log_has_it(settings: Any) -> None:
    settings.TRUSTED_PROXIES = 1
    request = RequestFactory(REMOTE_ADDR=PROXY, headers={"X-Forwarded-For": f"1.1.1.1, {CLIENT}"}).get("/")
    request.user = User(username="olga")
    assert audit.by(request) == {"actor": "olga", "address": CLIENT}


@pytest.mark.django_db
def test_another_claim_with_each_password_opens_no_door(settings: Any) -> None:
    settings.TRUSTED_PROXIES = 1
    signed_in()
    answers = [sign_in(f"1.1.1.{number}, {CLIENT}") for number in range(9)]
    assert answers == [200] * 7 + [429] * 2
    assert sign_in("203.0.113.10") == 200


def sign_in(forwarded: str) -> int:
    given = {"username": "olga", "password": "wrong"}
    answer = Client(REMOTE_ADDR=PROXY, headers={"X-Forwarded-For": forwarded}).post("/console/login", given)
    return answer.status_code
