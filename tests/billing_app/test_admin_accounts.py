"""Accounts in the admin: what is edited, what is only shown, and what each change leaves behind."""

from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from billing_app import ledger, months
from billing_app.models import (
    Account,
    AuditEntry,
    Balance,
    BudgetAlert,
    EnqueuedTokenLimit,
    Hold,
    MonthlySpend,
    RateLimit,
    StorageUse,
)
from tests.operators import form_on, signed_in, url
from tests.tenants import Tenant

pytestmark = pytest.mark.django_db


def page_of(account: Account) -> str:
    return url(Account, f"{account.pk}/change/")


def change(client: Client, account: Account, **changes: Any) -> Any:
    path = page_of(account)
    return client.post(path, form_on(client.get(path), **changes))


def owes(account: Account, amount: str) -> None:
    ledger.adjust(account.pk, -Decimal(amount), key=f"owes {amount}", reason="x", made_by="x", now=timezone.now())


def test_a_new_account_is_audited() -> None:
    operator = signed_in()
    form = form_on(operator.get(url(Account, "add/")), name="acme", monthly_budget="99.50", is_prepaid="on")
    assert operator.post(url(Account, "add/"), form).status_code == 302
    account, entry = Account.objects.get(), AuditEntry.objects.get()
    assert (account.monthly_budget, account.balance.is_prepaid) == (Decimal("99.5"), True)
    assert (entry.action, entry.target, entry.account) == ("account.created", f"Account {account.pk}: acme", "acme")
    assert entry.changes["monthly_budget"] == [None, "99.5"]
    assert entry.changes["is_prepaid"] == [False, True]


def test_a_change_is_audited_with_who_from_what_to_what_and_why() -> None:
    account = Account.objects.create(name="acme", max_files=10)
    assert change(signed_in(), account, max_files="20", why="they asked").status_code == 302
    entry = AuditEntry.objects.get()
    assert (entry.actor, entry.address, entry.reason) == ("olga", "127.0.0.1", "they asked")
    assert (entry.action, entry.changes) == ("account.changed", {"max_files": [10, 20]})


def test_a_page_that_is_sent_unchanged_leaves_no_entry() -> None:
    account = Account.objects.create(name="acme", monthly_budget=Decimal("0.000000000001"))
    assert change(signed_in(), account).status_code == 302
    assert not AuditEntry.objects.exists()
    account.refresh_from_db()
    assert account.monthly_budget == Decimal("0.000000000001")


def test_a_page_opened_before_another_s_change_does_not_undo_it() -> None:
    account, operator = Account.objects.create(name="acme", max_files=10), signed_in()
    form = form_on(operator.get(page_of(account)), alert_email="a@example.com")
    Account.objects.filter(pk=account.pk).update(max_files=500, weight=7)
    assert operator.post(page_of(account), form).status_code == 302
    account.refresh_from_db()
    assert (account.max_files, account.weight, account.alert_email) == (500, 7, "a@example.com")
    assert AuditEntry.objects.get().changes == {"alert_email": ["", "a@example.com"]}


def test_only_changed_columns_are_written() -> None:
    account, operator = Account.objects.create(name="acme"), signed_in()
    with CaptureQueriesContext(
        connection,
    ) as queries:
        change(operator, account, weight="3")
    [update] = [q["sql"] for q in queries if q["sql"].startswith('UPDATE "billing_app_account"')]
    assert "weight" in update
    assert "max_files" not in update


def test_limits_of_its_own_are_audited() -> None:
    account, operator = Account.objects.create(name="acme"), signed_in()
    EnqueuedTokenLimit.objects.create(account=account, model_name="m", tokens=5)
    more = {
        "rate_limits-TOTAL_FORMS": "1",
        "rate_limits-0-scope": "batches.create",
        "rate_limits-0-per_minute": "7",
        "enqueued_token_limits-0-tokens": "6",
    }
    assert change(operator, account, **more, why="a large job").status_code == 302
    assert (RateLimit.objects.get().per_minute, EnqueuedTokenLimit.objects.get().tokens) == (7, 6)
    entry = AuditEntry.objects.get()
    assert entry.reason == "a large job"
    assert entry.changes == {
        "rate limits": [[], ["acme: batches.create 7/min"]],
        "enqueued token limits": [["acme: m 5"], ["acme: m 6"]],
    }


def test_an_account_that_owes_does_not_become_prepaid() -> None:
    account = Account.objects.create(name="acme")
    owes(account, "2.5")
    answer = change(signed_in(), account, is_prepaid="on")
    assert "owes 2.5 USD: top it up first" in answer.content.decode()
    assert not Balance.objects.get().is_prepaid
    assert not AuditEntry.objects.exists()


def test_an_account_that_came_to_owe_since_the_form_was_checked_does_not_either(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    account, operator = Account.objects.create(name="acme"), signed_in()

    def refuse(account_id: int, prepaid: bool) -> None:
        raise ledger.NotCovered(Decimal(-1))

    monkeypatch.setattr(ledger, "set_prepaid", refuse)
    path = page_of(account)
    answer = operator.post(path, form_on(operator.get(path), is_prepaid="on", weight="5"), follow=True)
    assert "Nothing was saved" in answer.content.decode()
    account.refresh_from_db()
    assert (account.weight, AuditEntry.objects.count()) == (1, 0)


def test_prepaid_is_switched_through_the_ledger() -> None:
    account = Account.objects.create(name="acme")
    change(signed_in(), account, is_prepaid="on")
    assert Balance.objects.get().is_prepaid
    assert AuditEntry.objects.get().changes == {"is_prepaid": [False, True]}


def test_accounts_are_not_deleted() -> None:
    account, operator = Account.objects.create(name="acme"), signed_in()
    assert operator.post(url(Account, f"{account.pk}/delete/"), {"post": "yes"}).status_code == 403
    operator.post(url(Account), {"action": "delete_selected", "_selected_action": [account.pk], "post": "yes"})
    assert Account.objects.exists()


# The list


def make(count: int) -> None:
    month = months.containing(timezone.now())
    for number in range(count):
        tenant = Tenant(f"account {count}-{number}")
        StorageUse.objects.update_or_create(account=tenant.account, defaults={"files": number, "bytes": number})
        Balance.objects.create(account=tenant.account, available=Decimal(number), held=Decimal(1))
        for key in (0, tenant.api_key.pk):
            MonthlySpend.objects.create(account=tenant.account, month=month, api_key_id=key, amount=Decimal("0.5"))


def test_the_list_takes_as_many_queries_for_50_accounts_as_for_5(django_assert_num_queries: Any) -> None:
    operator = signed_in()
    make(5)
    with CaptureQueriesContext(connection) as few:
        operator.get(url(Account))
    make(45)
    with django_assert_num_queries(len(few)):
        page = operator.get(url(Account))
    assert len(page.context["cl"].result_list) == 50


def test_the_list_shows_where_accounts_stand() -> None:
    tenant = Tenant("acme")
    Account.objects.filter(pk=tenant.account.pk).update(monthly_budget=Decimal(100), max_files=10)
    StorageUse.objects.create(account=tenant.account, files=9)
    Balance.objects.create(account=tenant.account, available=Decimal("12.345"), held=Decimal(3), is_prepaid=True)
    month = months.containing(timezone.now())
    for key, amount in ((0, "100.1"), (1, "19.9")):
        MonthlySpend.objects.create(account=tenant.account, month=month, api_key_id=key, amount=Decimal(amount))
    MonthlySpend.objects.create(account=tenant.account, month="2000-01", amount=Decimal(77))
    frugal = Account.objects.create(name="frugal")
    for key, amount in ((0, "0.1"), (1, "0.2")):  # as floats 0.30000000000000004
        MonthlySpend.objects.create(account=frugal, month=month, api_key_id=key, amount=Decimal(amount))
    page = signed_in().get(url(Account)).content.decode()
    assert 'title="12.345">12.35' in page
    assert 'title="0.3">0.30' in page
    assert '120.00 of <span class="money" title="100">100.00' in page
    assert 'aria-label="Budget: 120 % used"' in page
    assert 'usage-warning"><meter min="0" max="100" value="90" aria-label="Files: 90 % used"' in page


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("payment=prepaid", {"full"}),
        ("payment=postpaid", {"empty", "none"}),
        ("used=80", {"full"}),
        ("used=100", set()),
        ("budget=yes", {"empty"}),
        ("budget=no", {"full", "none"}),
        ("is_enabled__exact=0", {"none"}),
        ("q=ful", {"full"}),
    ],
)
def test_filters(query: str, names: set[str]) -> None:
    """An account without balance or use of storage is postpaid and empty."""
    full = Account.objects.create(name="full", max_files=2_000_000_000)
    StorageUse.objects.create(account=full, files=1_600_000_000)
    Balance.objects.create(account=full, is_prepaid=True)
    empty = Account.objects.create(name="empty", monthly_budget=Decimal(1))
    StorageUse.objects.create(account=empty)
    Account.objects.create(name="none", is_enabled=False)
    found = signed_in().get(f"{url(Account)}?{query}").context["cl"].result_list
    assert {account.name for account in found} == names


# The page


def test_the_page_shows_spend_by_key_holds_and_alerts() -> None:
    tenant, now = Tenant("acme"), timezone.now()
    month = months.containing(now)
    MonthlySpend.objects.create(account=tenant.account, month=month, api_key_id=tenant.api_key.pk, amount=Decimal(7))
    Hold.objects.create(batch_id="batch_open", account=tenant.account, placed=5, left=4)
    Hold.objects.create(batch_id="batch_gone", account=tenant.account, placed=5, left=0, released_at=now)
    BudgetAlert.objects.create(account=tenant.account, month=month, percent=80, budget=Decimal(9), spent=Decimal(8))
    page = signed_in().get(page_of(tenant.account))
    assert [(row.key, row.amount) for row in page.context["key_spends"]] == [(tenant.api_key, Decimal(7))]
    assert [hold.batch_id for hold in page.context["holds"]] == ["batch_open"]
    assert "80 %" in page.content.decode()
    links = dict(page.context["links"])
    assert links["Ledger"] == "/admin/billing_app/ledgerentry/?account=acme"
    assert all(signed_in_.status_code == 200 for signed_in_ in map(signed_in(name="bo").get, links.values()))


def test_statements_are_offered_to_who_may_download_them() -> None:
    account = Account.objects.create(name="acme")
    month = months.containing(timezone.now())
    billing, viewer = signed_in("billing"), signed_in("viewer", "vic")
    assert billing.get(page_of(account)).context["statements"] == [month]
    assert viewer.get(page_of(account)).context["statements"] == []
    page = billing.get(page_of(account)).content.decode()
    assert f'href="/console/accounts/{account.pk}/statement/{month}.csv"' in page
