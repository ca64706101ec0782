"""API keys in the admin: issued, shown once, revoked; never seen again."""

import hmac
import json
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.sessions.models import Session
from django.test import Client
from django.utils import timezone

from billing_app import api_keys
from billing_app.models import Account, APIKey, AuditEntry
from tests.operators import form_on, signed_in, url
from tests.tenants import Tenant

pytestmark = pytest.mark.django_db
ADD = url(APIKey, "add/")


def issue(client: Client, account: Account, **given: Any) -> tuple[Any, dict[str, Any]]:
    form = form_on(client.get(ADD), account=str(account.pk), **given)
    return client.post(ADD, form), form


def test_a_key_is_issued_and_shown_once(caplog: pytest.LogCaptureFixture) -> None:
    """On the page that answers, and nowhere else: no session, log, history or audit entry has it."""
    operator, account = signed_in(), Account.objects.create(name="acme")
    caplog.set_level("DEBUG")
    page, _ = issue(operator, account, name="ci", monthly_limit="5")
    secret = page.context["secret"]
    row = api_keys.find(secret, now=timezone.now())
    assert row is not None
    assert (row.account, row.name, row.monthly_limit) == (account, "ci", Decimal(5))
    assert page.content.decode().count(secret) == 1
    assert "no-store" in page["Cache-Control"]
    again = operator.get(url(APIKey, f"{row.pk}/change/")).content.decode()
    kept = [json.dumps(session.get_decoded()) for session in Session.objects.all()]
    kept += [f"{entry.object_repr} {entry.change_message}" for entry in LogEntry.objects.all()]
    kept += [f"{entry.target} {entry.changes} {entry.reason}" for entry in AuditEntry.objects.all()]
    for place in (again, caplog.text, *kept):
        assert secret not in place
        assert row.key_hash not in place


def test_an_issued_key_is_audited() -> None:
    account = Account.objects.create(name="acme")
    issue(signed_in(), account, name="ci")
    entry, row = AuditEntry.objects.get(), APIKey.objects.get()
    assert (entry.action, entry.actor, entry.account) == ("key.issued", "olga", "acme")
    assert (entry.target, entry.changes) == (f"API key {row.pk}: {row.hint} ci", {"name": [None, "ci"]})


def test_loading_the_page_again_issues_no_second_key() -> None:
    operator, account = signed_in(), Account.objects.create(name="acme")
    _, form = issue(operator, account)
    again = operator.post(ADD, form, follow=True)
    assert "cannot be shown again" in again.content.decode()
    assert APIKey.objects.count() == 1


def test_a_key_that_has_expired_already_is_not_issued() -> None:
    operator, account = signed_in(), Account.objects.create(name="acme")
    page, _ = issue(operator, account, expires_at_0="2020-01-01", expires_at_1="00:00:00")
    assert "in the past" in page.content.decode()
    assert not APIKey.objects.exists()


def test_name_limit_and_expiry_are_changed_and_nothing_else() -> None:
    tenant, operator = Tenant("acme"), signed_in()
    other = Account.objects.create(name="other")
    path = url(APIKey, f"{tenant.api_key.pk}/change/")
    form = form_on(operator.get(path), name="new", monthly_limit="2.50", why="asked")
    tampered = {"account": str(other.pk), "key_hash": "0" * 64, "hint": "x", "revoked_at_0": "2020-01-01"}
    assert operator.post(path, form | tampered).status_code == 302
    before = tenant.api_key
    row = APIKey.objects.get()
    assert (row.name, row.monthly_limit) == ("new", Decimal("2.5"))
    assert (row.account, row.key_hash, row.hint, row.revoked_at) == (
        *(before.account, before.key_hash, before.hint, None),
    )
    assert AuditEntry.objects.get().changes == {"name": ["", "new"], "monthly_limit": [None, "2.5"]}


def test_a_request_meanwhile_is_still_noted() -> None:
    """`last_used_at` moves while an operator has the page open."""
    tenant, operator, now = Tenant("acme"), signed_in(), timezone.now()
    path = url(APIKey, f"{tenant.api_key.pk}/change/")
    form = form_on(operator.get(path), name="new")
    APIKey.objects.update(last_used_at=now, monthly_limit=Decimal(9))
    operator.post(path, form)
    row = APIKey.objects.get()
    assert (row.name, row.last_used_at, row.monthly_limit) == ("new", now, Decimal(9))


def test_keys_are_revoked_after_a_page_that_asks_why() -> None:
    tenant, operator = Tenant("acme"), signed_in()
    ask = operator.post(url(APIKey), {"action": "revoke", "_selected_action": [tenant.api_key.pk]})
    assert APIKey.objects.get().revoked_at is None
    refused = operator.post(url(APIKey, "revoke/"), form_on(ask, reason=" "))
    assert "This field is required" in refused.content.decode()
    assert APIKey.objects.get().revoked_at is None
    operator.post(url(APIKey, "revoke/"), form_on(ask, reason="leaked"))
    assert APIKey.objects.get().revoked_at is not None
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.reason, entry.account) == ("key.revoked", "leaked", "acme")
    operator.post(url(APIKey, "revoke/"), form_on(ask, reason="again"))
    assert AuditEntry.objects.count() == 1


def test_one_key_has_a_button_and_looking_at_it_revokes_nothing() -> None:
    tenant, operator = Tenant("acme"), signed_in()
    path = url(APIKey, f"revoke/?ids={tenant.api_key.pk}")
    assert path in operator.get(url(APIKey, f"{tenant.api_key.pk}/change/")).content.decode()
    assert operator.get(path).status_code == 200
    assert APIKey.objects.get().revoked_at is None
    assert path not in signed_in("viewer", "vic").get(url(APIKey, f"{tenant.api_key.pk}/change/")).content.decode()


@pytest.mark.parametrize("ids", ["", "x", "1e9", "9" * 30, "-1", "0,,;", "٣"])
def test_ids_that_are_none_are_told_so(ids: str) -> None:
    page = signed_in().get(url(APIKey, "revoke/"), {"ids": ids})
    assert "Nothing was chosen" in page.content.decode()


def test_keys_by_state() -> None:
    now, account = timezone.now(), Account.objects.create(name="acme")
    rows = {
        "active": api_keys.issue(account, expires_at=now + timedelta(days=1))[0],
        "expired": api_keys.issue(account, expires_at=now - timedelta(days=1))[0],
        "revoked": api_keys.issue(account, expires_at=now - timedelta(days=1))[0],
    }
    api_keys.revoke(rows["revoked"], now=now)
    operator = signed_in()
    for state, row in rows.items():
        page = operator.get(url(APIKey), {"state": state})
        assert list(page.context["cl"].result_list) == [row]
        assert f">{state}</span>" in page.content.decode()


def test_what_the_database_takes_for_equal_is_compared_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """In constant time."""
    compared: list[tuple[str, str]] = []

    def refuse(one: str, other: str) -> bool:
        compared.append((one, other))
        return False

    tenant = Tenant("acme")
    assert api_keys.find(tenant.key, now=timezone.now()) == tenant.api_key
    monkeypatch.setattr(hmac, "compare_digest", refuse)
    assert api_keys.find(tenant.key, now=timezone.now()) is None
    assert compared == [(tenant.api_key.key_hash, tenant.api_key.key_hash)]
