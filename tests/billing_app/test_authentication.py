from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from billing_app import api_keys, authentication
from billing_app.models import Account, APIKey
from tests.tenants import Tenant, error_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def tenant() -> Tenant:
    return Tenant("acme")


def ask(authorization: str | None) -> Any:
    headers = {} if authorization is None else {"Authorization": authorization}
    return Client().get("/v1/models", headers=headers)


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer  ", "Basic abc", "sk-123"])
def test_no_key(authorization: str | None) -> None:
    """401: who sends no key is told how to."""
    response = ask(authorization)
    error = error_of(response, 401)
    assert (error["type"], error["code"]) == ("invalid_request_error", "invalid_api_key")
    assert response["WWW-Authenticate"] == "Bearer"


def test_wrong_key() -> None:
    """401: the message shows the key's first and last four characters and no more."""
    message = error_of(ask("Bearer sk-abcdefghijklmnop"), 401)["message"]
    assert message == "Incorrect API key provided: sk-a…mnop."
    assert "sk-1" not in error_of(ask("Bearer sk-1234"), 401)["message"]


@pytest.mark.parametrize("key", ["sk-\xff\xfe", "sk-é", "a" * 8_000, "sk-\x7f"])
def test_hostile_key(key: str) -> None:
    """C6: a key of any bytes is a wrong key."""
    error_of(ask(f"Bearer {key}"), 401)


def test_right_key(tenant: Tenant) -> None:
    assert tenant.get("models").status_code == 200
    assert ask(f"bearer   {tenant.key}").status_code == 200


def test_expired_key(tenant: Tenant) -> None:
    """401: a key that expires is refused at that moment, remembered or not."""
    now = timezone.now()
    APIKey.objects.update(expires_at=now + timedelta(minutes=5))
    assert tenant.get("models").status_code == 200
    APIKey.objects.update(expires_at=now)
    authentication.forget()
    assert error_of(tenant.get("models"), 401)["code"] == "invalid_api_key"


def test_revoked_key(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    """401: a revoked key is refused within five seconds, on every process."""
    clock = [1000.0]
    monkeypatch.setattr("billing_app.authentication.time.monotonic", lambda: clock[0])
    assert tenant.get("models").status_code == 200
    api_keys.revoke(tenant.api_key, now=timezone.now())
    clock[0] += 4.9
    error_of(tenant.get("models"), 401)


def test_disabled_account(tenant: Tenant) -> None:
    """403: a disabled account."""
    Account.objects.update(is_enabled=False)
    error = error_of(tenant.get("models"), 403)
    assert (error["type"], error["code"]) == ("insufficient_quota", "quota_exceeded")


def test_new_key_works_at_once(tenant: Tenant) -> None:
    """An unknown key is not remembered as unknown."""
    error_of(ask("Bearer sk-abcdefghijklmnop"), 401)
    _, key = api_keys.issue(tenant.account)
    assert ask(f"Bearer {key}").status_code == 200


def test_hot_key_costs_no_query(tenant: Tenant) -> None:
    """The key's row is remembered for a moment: polling costs the query it is about."""
    batch = tenant.has_batch()
    tenant.get("models")
    with CaptureQueriesContext(
        connection,
    ) as queries:
        assert tenant.get(f"batches/{batch.public_id}").status_code == 200
    assert len(queries) == 1


def test_last_used(tenant: Tenant) -> None:
    """A key's last use is noted, at most once a minute."""
    tenant.get("models")
    tenant.api_key.refresh_from_db()
    noted = tenant.api_key.last_used_at
    assert noted is not None
    authentication.forget()
    tenant.get("models")
    tenant.api_key.refresh_from_db()
    assert tenant.api_key.last_used_at == noted
    APIKey.objects.update(last_used_at=noted - timedelta(minutes=2))
    authentication.forget()
    tenant.get("models")
    tenant.api_key.refresh_from_db()
    assert tenant.api_key.last_used_at is not None
    assert tenant.api_key.last_used_at >= noted


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif("connection.vendor != 'sqlite'", reason="only SQLite has one writer")
def test_noting_the_last_use_waits_for_nobody(tenant: Tenant) -> None:
    """While somebody writes, a request that reads is answered at once, its use not noted."""
    import sqlite3
    import time

    writer = sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)
    try:
        writer.execute("BEGIN IMMEDIATE")
        started = time.monotonic()
        assert tenant.get("models").status_code == 200
        assert time.monotonic() - started < 2
    finally:
        writer.close()
    tenant.api_key.refresh_from_db()
    assert tenant.api_key.last_used_at is None
    with connection.cursor() as cursor:
        assert cursor.execute("PRAGMA busy_timeout").fetchone() == (30_000,)
