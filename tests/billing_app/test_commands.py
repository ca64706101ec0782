import json
from datetime import timedelta
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from billing_app import api_keys
from billing_app.models import Account, APIKey, AuditEntry, EnqueuedTokenLimit

pytestmark = pytest.mark.django_db


def run(*arguments: str) -> dict[str, Any]:
    return dict(json.loads(say(*arguments, "--json")))


def say(*arguments: str) -> str:
    out = StringIO()
    call_command(*arguments, stdout=out)
    return out.getvalue()


def test_a_new_account_gets_a_key_that_works() -> None:
    made = run("create_account", "acme")
    key = api_keys.find(made["key"], now=timezone.now())
    assert made["created"] is True
    assert key is not None
    assert key.account == Account.objects.get(pk=made["id"], name="acme")


def test_the_key_is_part_of_the_sentence_too() -> None:
    key = say("create_account", "acme").split()[-1]
    assert api_keys.find(key, now=timezone.now()) is not None


def test_an_account_that_exists_keeps_its_keys_and_gets_none() -> None:
    run("create_account", "acme")
    again = run("create_account", "acme")
    assert again["created"] is False
    assert "key" not in again
    assert APIKey.objects.count() == 1
    assert "exists already" in say("create_account", "acme")


def test_weight_and_token_limits_are_set_on_a_new_and_on_an_existing_account() -> None:
    run("create_account", "acme", "--weight", "2", "--token-limit", "org/m:1=1000")
    run("create_account", "acme", "--weight", "3", "--token-limit", "org/m:1=2000", "--token-limit", "k=v=5")
    assert Account.objects.get().weight == 3
    assert dict(EnqueuedTokenLimit.objects.values_list("model_name", "tokens")) == {"org/m:1": 2000, "k=v": 5}


def test_what_is_not_named_stays_as_it_was() -> None:
    run("create_account", "acme", "--weight", "2", "--token-limit", "m=1000")
    run("create_account", "acme")
    assert Account.objects.get().weight == 2
    assert EnqueuedTokenLimit.objects.get().tokens == 1000


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--token-limit", "m"], "MODEL=N, not 'm'"),
        (["--token-limit", "=5"], "MODEL=N, not '=5'"),
        (["--token-limit", "m=-5"], "MODEL=N, not 'm=-5'"),
        (["--token-limit", "m=²"], "MODEL=N, not 'm=²'"),
        (["--weight", "0"], "--weight must be between 1 and 1000"),
        (["--weight", "-1"], "--weight must be between 1 and 1000"),
        (["--weight", "1001"], "--weight must be between 1 and 1000"),
        (["--token-limit", f"m={10**30}"], "--token-limit"),
    ],
)
def test_a_bad_option_makes_no_account(arguments: list[str], sentence: str) -> None:
    with pytest.raises(CommandError, match=sentence):
        run("create_account", "acme", *arguments)
    assert not Account.objects.exists()


@pytest.mark.parametrize("name", ["", " ", "x" * 101])
def test_an_account_needs_a_name_that_fits(name: str) -> None:
    with pytest.raises(CommandError, match="name"):
        run("create_account", name)


def test_another_key_for_an_account() -> None:
    run("create_account", "acme")
    made = run("create_key", "acme", "--name", "ci")
    key = api_keys.find(made["key"], now=timezone.now())
    assert key is not None
    assert (key.pk, key.name, key.account.name, key.expires_at) == (made["id"], "ci", "acme", None)


def test_a_key_with_an_end() -> None:
    run("create_account", "acme")
    secret = run("create_key", "acme", "--expires-in-days", "3")["key"]
    now = timezone.now()
    assert api_keys.find(secret, now=now + timedelta(days=2)) is not None
    assert api_keys.find(secret, now=now + timedelta(days=4)) is None


def test_no_key_for_an_account_that_does_not_exist() -> None:
    with pytest.raises(CommandError, match="There is no account 'acme'"):
        run("create_key", "acme")


@pytest.mark.parametrize("days", ["0", "-1", "99999999"])
def test_no_key_that_is_expired_already_or_never(days: str) -> None:
    run("create_account", "acme")
    with pytest.raises(CommandError, match="--expires-in-days"):
        run("create_key", "acme", "--expires-in-days", days)
    assert APIKey.objects.count() == 1


def test_a_revoked_key_is_refused_from_then_on_and_revoking_again_does_nothing() -> None:
    run("create_account", "acme")
    made = run("create_key", "acme")
    assert run("revoke_key", str(made["id"]))["revoked"] is True
    assert api_keys.find(made["key"], now=timezone.now()) is None
    first = APIKey.objects.get(pk=made["id"]).revoked_at
    assert run("revoke_key", str(made["id"]))["revoked"] is False
    assert "was revoked before" in say("revoke_key", str(made["id"]))
    assert APIKey.objects.get(pk=made["id"]).revoked_at == first


def test_a_key_that_does_not_exist_cannot_be_revoked() -> None:
    with pytest.raises(CommandError, match="There is no key 77"):
        run("revoke_key", "77")


def test_what_commands_do_is_on_record() -> None:
    """Who, what and on what; never a key itself."""
    run("create_account", "acme", "--weight", "2")
    made = run("create_key", "acme")
    for _ in range(2):
        run("revoke_key", str(made["id"]))
    entries = list(AuditEntry.objects.order_by("pk"))
    assert [entry.action for entry in entries] == ["account.created", "key.issued", "key.revoked"]
    assert {entry.account for entry in entries} == {"acme"}
    assert entries[0].changes == {"weight": [None, 2]}
    assert all("manage.py" in entry.actor and made["key"] not in str(vars(entry)) for entry in entries)


def test_an_account_is_set_up_with_all_that_it_may_do() -> None:
    run("create_account", "acme", "--prepaid", "--max-files", "5", "--max-bytes", "1000", "--max-active-batches", "3")
    run("create_account", "acme", "--monthly-budget", "99.50", "--stop-at-budget", "--rate-limit", "batches.list=7")
    account = Account.objects.get()
    assert (account.max_files, account.max_bytes, account.max_active_batches) == (5, 1000, 3)
    assert (account.monthly_budget, account.budget_is_hard) == (Decimal("99.5"), True)
    assert account.balance.is_prepaid
    assert [(limit.scope, limit.per_minute) for limit in account.rate_limits.all()] == [("batches.list", 7)]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--max-files", "-1"], "--max-files must be between 0 and"),
        (["--max-bytes", str(2**63)], "--max-bytes must be between 0 and"),
        (["--monthly-budget", "lots"], "--monthly-budget must be an amount such as"),
        (["--monthly-budget", "-1"], "--monthly-budget must be an amount such as"),
        (["--rate-limit", "nothing=5"], "there is no 'nothing=5'. The scopes are"),
        (["--prepaid", "--postpaid"], "either --prepaid or --postpaid"),
    ],
)
def test_a_wrong_setting_changes_nothing(arguments: list[str], sentence: str) -> None:
    with pytest.raises(CommandError, match=sentence):
        run("create_account", "acme", *arguments)
    assert not Account.objects.exists()


def test_an_account_that_owes_cannot_become_prepaid() -> None:
    run("create_account", "acme")
    run("credit", "acme", "-5", "--adjustment", "--reason", "late item")
    with pytest.raises(CommandError, match="balance is -5: to be prepaid it must not owe"):
        run("create_account", "acme", "--prepaid")
