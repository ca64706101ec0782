"""Accounts in the console: where each stands, and what belongs to one."""

import base64
import json
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission
from django.test import Client
from django.utils import timezone

from batches_app.states import Status
from billing_app import api_keys, audit, ledger, months, quotas
from billing_app.models import Account
from tests.books import use
from tests.factories import PriceFactory
from tests.operators import signed_in
from tests.tenants import Tenant

pytestmark = pytest.mark.django_db
LIST = "/console/accounts"
PERMISSIONS = ("view_ledgerentry", "view_apikey", "view_batch", "view_auditentry", "view_storedfile")


def text_of(client: Client, path: str, **query: str) -> str:
    answer = client.get(path, query)
    assert answer.status_code == 200
    return " ".join(answer.content.decode().split())


def rows(client: Client, **query: str) -> list[Any]:
    return [row.account.name for row in client.get(LIST, query).context["rows"]]


def doorman(*permissions: str) -> Client:
    """Who may see accounts, and what these permissions add."""
    group, _ = Group.objects.get_or_create(name="doorman")
    group.permissions.set(Permission.objects.filter(codename__in=("view_account", *permissions)))
    return signed_in("doorman", name="dora")


def forged(name: str | None) -> str:
    return base64.urlsafe_b64encode(json.dumps(["name", name, 1]).encode()).decode()


# The list


def test_a_row_tells_quota_spend_credit_batches_and_last_use_of_keys() -> None:
    acme = Tenant("acme")
    quotas.keep(acme.account, files=8_000, size=1024**3)
    Account.objects.filter(pk=acme.account.pk).update(monthly_budget=Decimal(50))
    now = timezone.now()
    ledger.top_up(acme.account.pk, Decimal("52.50"), key="k", reason="r", made_by="o", now=now)
    ledger.set_prepaid(acme.account.pk, True)
    use(acme.account, PriceFactory(input_price=Decimal(80)), now=now)  # 40
    acme.api_key.last_used_at = now - timedelta(hours=2, seconds=1)
    acme.api_key.save()
    acme.has_batch(status=Status.IN_PROGRESS)
    acme.has_batch(status=Status.COMPLETED)
    page = text_of(signed_in("viewer"), LIST)
    for said in ("8,000 of 10,000", "80 %", "12.50", "40.00", "50.00", "2 h 0 min ago", "1 valid key"):
        assert said in page
    [row] = signed_in("viewer").get(LIST).context["rows"]
    assert (row.active, row.spent, row.balance.available) == (1, 40, Decimal("12.5"))
    assert not row.is_over_budget


def test_a_budget_and_a_credit_that_are_used_up_are_seen() -> None:
    spender, payer = Tenant("spender"), Tenant("payer")
    Account.objects.filter(pk=spender.account.pk).update(monthly_budget=Decimal("0.075"))
    use(spender.account, PriceFactory(), now=timezone.now())  # 0.075
    ledger.set_prepaid(payer.account.pk, True)
    page = text_of(signed_in("viewer"), LIST)
    assert 'class="meter meter-danger"' in page
    assert "used up" in page
    rows = {row.account.name: row for row in signed_in("viewer").get(LIST).context["rows"]}
    assert rows["spender"].is_over_budget
    assert rows["payer"].has_no_credit


def test_accounts_are_found_by_name_state_and_nearness_to_a_quota() -> None:
    for name in ("acme", "acme-test", "umbrella"):
        Tenant(name)
    Account.objects.filter(name="umbrella").update(is_enabled=False)
    quotas.keep(Account.objects.get(name="acme-test"), files=8_000)
    client = signed_in("viewer")
    assert rows(client) == ["acme", "acme-test", "umbrella"]
    assert rows(client, q="ACME") == ["acme", "acme-test"]
    assert rows(client, state="disabled") == ["umbrella"]
    assert rows(client, state="enabled") == ["acme", "acme-test"]
    assert rows(client, state="near") == ["acme-test"]
    assert rows(client, q="e", state="disabled") == ["umbrella"]


@pytest.mark.parametrize(
    "query",
    [
        *({"state": "rich"}, {"after": "x"}, {"before": "e30"}, {"page": "2"}, {"q": "\0"}, {"q": "a" * 101}),
        *({"after": forged(name)} for name in ("a\0", "\ud800", None)),
    ],
)
def test_what_cannot_be_read_is_said(query: dict[str, str]) -> None:
    Tenant("acme")
    answer = signed_in("viewer").get(LIST, query)
    assert answer.status_code == 400
    assert 'role="alert"' in answer.content.decode()
    assert "acme" not in answer.content.decode()


def test_pages_follow_one_another_by_name() -> None:
    long = "z" * 100
    Account.objects.bulk_create(Account(name=name) for name in (*(f"a {n:03d}" for n in range(103)), long))
    client, seen = signed_in("viewer"), []
    query: dict[str, str] = {}
    while True:
        answer = client.get(LIST, query)
        seen += [row.account.name for row in answer.context["rows"]]
        if not answer.context["page"].after:
            break
        query = {"after": answer.context["page"].after}
    assert seen == [*(f"a {n:03d}" for n in range(103)), long]
    assert rows(client, before=answer.context["page"].before) == seen[50:100]


def test_a_first_visit_says_what_an_account_is() -> None:
    Account.objects.all().delete()
    assert "An account is a tenant" in text_of(signed_in(), LIST)
    assert "No account matches" in text_of(signed_in(), LIST, q="x")


def test_what_a_form_leaves_empty_is_not_in_the_address() -> None:
    answer = signed_in("viewer").get(LIST, {"q": "acme", "state": ""})
    assert answer.headers["Location"] == f"{LIST}?q=acme"


# One of them


def test_an_account_has_its_keys_batches_limits_and_changes_on_one_page() -> None:
    acme = Tenant("acme")
    acme.account.rate_limits.create(scope="batches.list", per_minute=7)
    acme.account.enqueued_token_limits.create(model_name="m", tokens=123_456)
    acme.account.enqueued_token_limits.create(model_name="idle", tokens=99)
    gone, _ = api_keys.issue(acme.account, name="old script")
    gone.revoked_at = timezone.now()
    gone.save()
    batch = acme.has_batch(name="nightly", model_name="m", enqueued_tokens=1_000, status=Status.IN_PROGRESS)
    acme.has_batch(model_name="m", enqueued_tokens=500_000, status=Status.COMPLETED)
    acme.has_batch(model_name="free", enqueued_tokens=17, status=Status.IN_PROGRESS)
    audit.record(actor="olga", action="key.revoked", target=gone, account="acme", reason="leaked")
    audit.record(actor="olga", action="key.revoked", target="the key of another", account="other")
    page = text_of(signed_in(), f"{LIST}/{acme.account.pk}")
    for said in (acme.api_key.hint, "old script", "revoked", "nightly", batch.public_id, "leaked"):
        assert said in page
    for said in ("1,000 of 123,456", "0 of 99", "7 requests a minute"):
        assert said in page
    assert "the key of another" not in page
    context = signed_in().get(f"{LIST}/{acme.account.pk}").context
    assert context["enqueued"] == [("free", 17, None), ("idle", 0, 99), ("m", 1_000, 123_456)]
    assert context["row"].active == 2


def test_a_key_tells_its_state_and_what_it_spent_this_month() -> None:
    acme, price, now = Tenant("acme"), PriceFactory(input_price=Decimal(1)), timezone.now()
    expired, _ = api_keys.issue(acme.account, expires_at=now)
    use(acme.account, price, api_key_id=acme.api_key.pk, now=now)
    use(acme.account, price, api_key_id=acme.api_key.pk, now=months.beginning(months.containing(now)) - timedelta(1))
    keys = signed_in("viewer").get(f"{LIST}/{acme.account.pk}").context["keys"]
    assert [(key.key, key.state, key.spent) for key in keys] == [
        (expired, "expired", 0),
        (acme.api_key, "valid", Decimal("0.5")),
    ]


def test_it_leads_to_its_batches_files_usage_log_and_to_the_administration() -> None:
    acme = Tenant("a & b")
    client = signed_in()
    page = text_of(client, f"{LIST}/{acme.account.pk}")
    for link in ("batches", "files", "usage", "audit"):
        assert f'/console/{link}?account=a%20%26%20b"' in page
        assert client.get(f"/console/{link}?account=a%20%26%20b").status_code == 200
    assert f'/admin/billing_app/account/{acme.account.pk}/change/"' in page
    assert f'/admin/billing_app/apikey/add/?account={acme.account.pk}"' in page


def test_statements_are_for_who_may_download_them() -> None:
    acme = Tenant("acme")
    month = months.containing(timezone.now())
    link = f"{LIST}/{acme.account.pk}/statement/{month}.csv"
    assert link in text_of(signed_in("billing", "bo"), f"{LIST}/{acme.account.pk}")
    assert "/statement/" not in text_of(signed_in("viewer"), f"{LIST}/{acme.account.pk}")


def test_each_section_takes_its_own_permission() -> None:
    acme = Tenant("acme")
    acme.has_batch(name="nightly")
    audit.record(actor="olga", action="account.changed", target=acme.account, account="acme", reason="asked")
    signs = {
        "view_ledgerentry": "Spent this month",
        "view_apikey": acme.api_key.hint,
        "view_batch": "nightly",
        "view_auditentry": "asked",
        "view_storedfile": "Its files",
    }
    for permission in (*PERMISSIONS, None):
        page = text_of(doorman(*([permission] if permission else [])), f"{LIST}/{acme.account.pk}")
        assert {name for name, sign in signs.items() if sign in page} == ({permission} - {None})
    rest = text_of(doorman(), LIST)
    assert not [word for word in ("Spent this month", "Under way", "Keys last used") if word in rest]


def test_an_account_that_is_not_there_is_not_found() -> None:
    for pk in (999, 10**30):
        assert signed_in().get(f"{LIST}/{pk}").status_code == 404


def test_a_name_is_no_markup() -> None:
    hostile = "<script>alert(1)</script>\u202e"
    acme = Tenant(hostile)
    api_keys.issue(acme.account, name=hostile)
    acme.has_batch(name=hostile, model_name=hostile, enqueued_tokens=5, status=Status.IN_PROGRESS)
    for path in (LIST, f"{LIST}/{acme.account.pk}"):
        page = text_of(signed_in(), path)
        assert "<script>alert" not in page
        assert "\u202e" not in page


def test_a_page_of_accounts_takes_few_queries(django_assert_max_num_queries: Any) -> None:
    client = signed_in("billing")
    for number in range(60):
        Tenant(f"account {number}").has_batch()
    with django_assert_max_num_queries(12):
        text_of(client, LIST, state="enabled")
    newest = Account.objects.latest("pk").pk
    with django_assert_max_num_queries(12):
        text_of(client, f"{LIST}/{newest}")
