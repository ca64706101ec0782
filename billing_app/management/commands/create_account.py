import json
import re
from decimal import Decimal
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from billing_app import api_keys, audit, ledger
from billing_app.amounts import AmountField
from billing_app.models import Account, EnqueuedTokenLimit, RateLimit
from config.api.scopes import Scope

MOST_WEIGHT = 1_000
# What an account's columns are called here, with the highest value that they take.
NUMBERS = {"weight": MOST_WEIGHT, "max_files": 2**31 - 1, "max_bytes": 2**63 - 1, "max_active_batches": 2**31 - 1}


class Command(BaseCommand):
    help = "Creates an account and prints its first key, once. One that exists keeps its keys, and gets what is given."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name")
        parser.add_argument("--weight", type=int, help="share of a busy model: 2 gets twice 1")
        parser.add_argument("--max-files", type=int, help="files that it may keep")
        parser.add_argument("--max-bytes", type=int, help="bytes that it may keep")
        parser.add_argument("--max-active-batches", type=int, help="batches that have not ended yet")
        parser.add_argument(
            "--token-limit", action="append", default=[], metavar="MODEL=N", help="most tokens enqueued for a model"
        )
        parser.add_argument(
            "--rate-limit", action="append", default=[], metavar="SCOPE=N", help=f"a minute: {', '.join(Scope)}"
        )
        parser.add_argument("--prepaid", action="store_true", help="pays from credit (see: credit)")
        parser.add_argument("--postpaid", action="store_true", help="pays by statement (the default)")
        parser.add_argument("--monthly-budget", metavar="AMOUNT", help="alerts at 50, 80 and 100 %% of it")
        parser.add_argument("--stop-at-budget", action="store_true", help="new batches are refused once it is used up")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        columns = _columns(options)
        tokens = dict(_limit(text, "--token-limit", "MODEL=N") for text in options["token_limit"])
        rates = dict(_rate_limit(text) for text in options["rate_limit"])
        try:
            Account._meta.get_field("name").clean(options["name"].strip(), None)
        except ValidationError as error:
            raise CommandError(f"The account's name cannot be {options['name']!r}: {error.messages[0]}") from None
        with transaction.atomic():
            account, created = Account.objects.get_or_create(name=options["name"])
            Account.objects.filter(pk=account.pk).update(**columns)
            _set_limits(account, tokens, rates)
            _set_prepaid(account, options)
            key = api_keys.issue(account, name="first key")[1] if created else None
            _record(account, created, _given(options))
        report = {"id": account.pk, "name": account.name, "created": created} | ({"key": key} if key else {})
        said = f"Created account '{account.name}'. Its API key, shown once: {key}"
        exists = f"Account '{account.name}' exists already; its keys are unchanged (create_key makes another)."
        self.stdout.write(json.dumps(report) if options["json"] else said if created else exists)


def _record(account: Account, created: bool, given: dict[str, Any]) -> None:
    if not created and not given:
        return
    audit.record(
        actor=audit.from_shell("create_account"),
        action="account.created" if created else "account.changed",
        target=account,
        account=account.name,
        changes={name: (None, value) for name, value in given.items()},
    )


def _given(options: dict[str, Any]) -> dict[str, Any]:
    settable = (*NUMBERS, "token_limit", "rate_limit", "prepaid", "postpaid", "monthly_budget", "stop_at_budget")
    return {name: options[name] for name in settable if options[name] not in (None, False, [])}


def _columns(options: dict[str, Any]) -> dict[str, Any]:
    columns: dict[str, Any] = {name: options[name] for name in NUMBERS if options[name] is not None}
    for name, value in columns.items():
        least = 1 if name == "weight" else 0
        if not least <= value <= NUMBERS[name]:
            raise CommandError(f"--{name.replace('_', '-')} must be between {least} and {NUMBERS[name]}.")
    if options["monthly_budget"] is not None:
        columns["monthly_budget"] = _money(options["monthly_budget"])
    if options["stop_at_budget"]:
        columns["budget_is_hard"] = True
    return columns


def _set_limits(account: Account, tokens: dict[str, int], rates: dict[str, int]) -> None:
    for model_name, limit in tokens.items():
        EnqueuedTokenLimit.objects.update_or_create(account=account, model_name=model_name, defaults={"tokens": limit})
    for scope, per_minute in rates.items():
        RateLimit.objects.update_or_create(account=account, scope=scope, defaults={"per_minute": per_minute})


def _set_prepaid(account: Account, options: dict[str, Any]) -> None:
    if options["prepaid"] and options["postpaid"]:
        raise CommandError("An account is either --prepaid or --postpaid.")
    if not options["prepaid"] and not options["postpaid"]:
        return
    try:
        ledger.set_prepaid(account.pk, options["prepaid"])
    except ledger.NotCovered as error:
        raise CommandError(
            f"The account's balance is {error}: to be prepaid it must not owe. Top it up first (credit)."
        ) from None


def _limit(text: str, option: str, form: str) -> tuple[str, int]:
    name, _, number = text.rpartition("=")
    if not name or not re.fullmatch(r"[0-9]{1,15}", number):
        raise CommandError(f"{option} must look like {form}, not {text!r}.")
    return name, int(number)


def _rate_limit(text: str) -> tuple[str, int]:
    scope, per_minute = _limit(text, "--rate-limit", "SCOPE=N")
    if scope not in list(Scope) or per_minute >= 2**31:
        raise CommandError(f"--rate-limit: there is no {text!r}. The scopes are {', '.join(Scope)}.")
    return scope, per_minute


def _money(text: str) -> Decimal:
    try:
        amount: Decimal = AmountField().clean(text)
    except ValidationError as error:
        raise CommandError(
            f"--monthly-budget must be an amount such as 99.50, not {text!r}: {error.messages[0]}"
        ) from None
    return amount
