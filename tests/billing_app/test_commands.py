import json
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from billing_app import api_keys
from billing_app.models import Account, APIKey, EnqueuedTokenLimit

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
