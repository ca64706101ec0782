"""`credit` and `statement`."""

import getpass
import json
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError
from django.utils import timezone

from billing_app import audit, ledger
from billing_app.models import Account, AuditEntry, LedgerEntry
from tests.books import stands, use
from tests.factories import AccountFactory, PriceFactory

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def account() -> Account:
    made: Account = AccountFactory(name="acme")
    return made


def say(*arguments: str) -> str:
    out = StringIO()
    call_command(*arguments, stdout=out)
    return out.getvalue()


def run(*arguments: str) -> dict[str, Any]:
    return dict(json.loads(say(*arguments, "--json")))


def this_month() -> str:
    return f"{timezone.now():%Y-%m}"


def test_credit_is_a_top_up_by_who_ran_the_command(account: Account) -> None:
    report = run("credit", "acme", "99.50", "--reason", "invoice 7")
    assert report.pop("key")
    assert report == {
        "account": "acme",
        "amount": "99.5",
        "currency": "USD",
        "booked": True,
        "available": "99.5",
        "held": "0",
        "balance": "99.5",
    }
    entry = LedgerEntry.objects.get()
    assert (entry.kind, entry.amount, entry.reason) == ("top_up", Decimal("99.50"), "invoice 7")
    assert entry.made_by == f"{getpass.getuser()} (manage.py credit)"


def test_credit_is_in_the_audit_trail_once(account: Account) -> None:
    run("credit", "acme", "10", "--reason", "invoice 7", "--key", "k")
    run("credit", "acme", "10", "--reason", "invoice 7", "--key", "k")
    run("credit", "acme", "-1", "--reason", "rebate", "--adjustment")
    entries = AuditEntry.objects.order_by("pk").values_list("action", "account", "reason", "changes")
    assert list(entries) == [
        ("credit.added", "acme", "invoice 7", {"amount": [None, "10"], "available": ["0", "10"]}),
        ("adjustment.made", "acme", "rebate", {"amount": [None, "-1"], "available": ["10", "9"]}),
    ]


def test_no_credit_without_its_audit_entry(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(**_: object) -> None:
        raise DatabaseError

    monkeypatch.setattr(audit, "record", broken)
    with pytest.raises(DatabaseError):
        run("credit", "acme", "10", "--reason", "r")
    assert not LedgerEntry.objects.exists()


def test_credit_without_a_key_books_each_time(account: Account) -> None:
    for _ in range(2):
        run("credit", "acme", "10", "--reason", "r")
    assert stands(account) == (20, 0)


def test_credit_with_a_key_books_once(account: Account) -> None:
    booked = [run("credit", "acme", "10", "--reason", "r", "--key", "invoice 7")["booked"] for _ in range(3)]
    assert booked == [True, False, False]
    assert stands(account) == (10, 0)
    assert "booked before" in say("credit", "acme", "10", "--reason", "r", "--key", "invoice 7")


@pytest.mark.parametrize(
    "other", [["acme", "11"], ["acme", "10", "--adjustment"], ["other", "10"]], ids=["amount", "kind", "account"]
)
def test_a_key_names_one_payment(account: Account, other: list[str]) -> None:
    AccountFactory(name="other")
    run("credit", "acme", "10", "--reason", "r", "--key", "invoice 7")
    with pytest.raises(CommandError, match="--key was used before, for another account, amount or kind"):
        run("credit", *other, "--reason", "r", "--key", "invoice 7")
    assert LedgerEntry.objects.count() == 1


def test_an_adjustment_takes_too(account: Account) -> None:
    run("credit", "acme", "10", "--reason", "r")
    report = run("credit", "acme", "-2.5", "--reason", "rebate taken back", "--adjustment")
    assert (report["amount"], report["balance"]) == ("-2.5", "7.5")
    assert LedgerEntry.objects.filter(kind="adjustment", amount=Decimal("-2.5")).exists()


def test_an_adjustment_takes_no_more_than_a_prepaid_account_has(account: Account) -> None:
    ledger.set_prepaid(account.pk, True)
    run("credit", "acme", "2.25", "--reason", "r")
    with pytest.raises(CommandError, match=r"has 2\.25 USD available: an adjustment cannot take 3\."):
        run("credit", "acme", "-3", "--reason", "r", "--adjustment")
    assert stands(account) == (Decimal("2.25"), 0)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nobody", "10"], "There is no account 'nobody'"),
        (["acme", "0"], "must not be 0"),
        (["acme", "0.00", "--adjustment"], "must not be 0"),
        (["acme", "-1"], "give --adjustment"),
        (["acme", "ten"], "such as 100 or 99.50, not 'ten'"),
        (["acme", "1e3"], "not '1e3'"),
        (["acme", "NaN"], "not 'NaN'"),
        (["acme", "1_0"], "not '1_0'"),
        (["acme", "\u0661"], "not '\u0661'"),
        (["acme", "1" * 13], "such as 100"),
        (["acme", "0.1234567890123"], "such as 100"),
        (["acme", "10", "--key", ""], "--key needs 1 to 150"),
        (["acme", "10", "--key", "k" * 151], "--key needs 1 to 150"),
        (["acme", "10", "--key", "\udcff"], "--key needs 1 to 150 printable"),
    ],
)
def test_what_cannot_be_credited_is_said(arguments: list[str], sentence: str) -> None:
    with pytest.raises(CommandError, match=sentence):
        run("credit", *arguments, "--reason", "r")
    assert not LedgerEntry.objects.exists()


@pytest.mark.parametrize("reason", ["", " ", "x" * 501, "two\nlines", "\udcff"])
def test_credit_has_a_reason(reason: str) -> None:
    with pytest.raises(CommandError, match="--reason needs 1 to 500 printable characters"):
        run("credit", "acme", "10", "--reason", reason)


def test_the_smallest_and_the_largest_amount(account: Account) -> None:
    for amount in ("0.000000000001", "999999999999.999999999999"):
        run("credit", "acme", amount, "--reason", "r")
    assert stands(account)[0] == 10**12


def test_a_statement_in_each_format(account: Account) -> None:
    use(account, PriceFactory(), batch_id="batch_7", now=timezone.now())
    assert say("statement", "acme", this_month()).startswith(f"acme: {this_month()}, in USD")
    assert say("statement", "acme", this_month(), "--format", "csv").startswith("account_id,month,closed,")
    body = json.loads(say("statement", "acme", this_month(), "--format", "json"))
    assert body["usage"][0]["batch_id"] == "batch_7"
    assert run("statement", "acme", this_month()) == body


def test_no_statement_without_an_account_or_a_month() -> None:
    with pytest.raises(CommandError, match="There is no account 'nobody'"):
        say("statement", "nobody", this_month())
    with pytest.raises(CommandError, match="A month looks like"):
        say("statement", "acme", "11/2026")
    with pytest.raises(CommandError, match="none for 1999-01"):
        say("statement", "acme", "1999-01")
