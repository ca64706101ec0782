import json
import re
import secrets
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction
from django.utils import timezone

from billing_app import audit, ledger
from billing_app.models import Account, Balance, LedgerEntry
from billing_app.pricing import add, minus, plain

KEY_LENGTH = 150  # the ledger's own has 200, and a word before it
REASON_LENGTH = 500
AMOUNT = r"-?[0-9]{1,12}(\.[0-9]{1,12})?"


class Command(BaseCommand):
    help = "Adds credit to an account, or corrects its balance. The entry cannot be changed; another can undo it."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("account", help="the account's name")
        parser.add_argument("amount", help="such as 100 or 99.50")
        parser.add_argument("--reason", required=True, help="what the statement says")
        parser.add_argument("--adjustment", action="store_true", help="a correction; the amount may be negative")
        parser.add_argument("--key", help="names the payment: the same one again books nothing")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        account = Account.objects.filter(name=options["account"]).first()
        if account is None:
            raise CommandError(f"There is no account '{options['account']}'. Create it with create_account.")
        amount = _amount(options["amount"], options["adjustment"])
        reason = _text("--reason", options["reason"], REASON_LENGTH)
        key = secrets.token_hex(16) if options["key"] is None else _text("--key", options["key"], KEY_LENGTH)
        booked = _book(account, amount, f"credit:{key}", reason, options["adjustment"])
        report = _report(account, amount, key, booked)
        self.stdout.write(json.dumps(report) if options["json"] else _sentence(report))


@transaction.atomic
def _book(account: Account, amount: Decimal, key: str, reason: str, is_adjustment: bool) -> bool:
    book = ledger.adjust if is_adjustment else ledger.top_up
    kind = LedgerEntry.Kind.ADJUSTMENT if is_adjustment else LedgerEntry.Kind.TOP_UP
    before, who = ledger.lock(account.pk).available, audit.from_shell("credit")
    try:
        booked = book(account.pk, amount, key=key, reason=reason, made_by=who, now=timezone.now())
    except ledger.NotCovered as error:
        raise CommandError(
            f"Account '{account.name}' is prepaid and has {error} {settings.CURRENCY} available: "
            f"an adjustment cannot take {plain(minus(amount))}."
        ) from None
    if not booked and not LedgerEntry.objects.filter(key=key, account=account, kind=kind, amount=amount).exists():
        raise CommandError("--key was used before, for another account, amount or kind of entry.")
    if booked:
        changes = {"amount": (None, amount), "available": (before, add([before, amount]))}
        action = "adjustment.made" if is_adjustment else "credit.added"
        audit.record(actor=who, action=action, target=account, account=account.name, changes=changes, reason=reason)
    return booked


def _amount(text: str, is_adjustment: bool) -> Decimal:
    if not re.fullmatch(AMOUNT, text, re.ASCII):
        raise CommandError(f"AMOUNT must be a number such as 100 or 99.50, not {text!r}.")
    amount = Decimal(text)
    if not amount:
        raise CommandError("AMOUNT must not be 0.")
    if amount < 0 and not is_adjustment:
        raise CommandError("A top-up adds credit. To take some away, give --adjustment.")
    return amount


def _text(option: str, text: str, length: int) -> str:
    text = text.strip()
    if not 1 <= len(text) <= length or not text.isprintable():
        raise CommandError(f"{option} needs 1 to {length} printable characters.")
    return text


def _report(account: Account, amount: Decimal, key: str, booked: bool) -> dict[str, Any]:
    balance = Balance.objects.get(account=account)
    return {
        "account": account.name,
        "amount": plain(amount),
        "currency": settings.CURRENCY,
        "key": key,
        "booked": booked,
        "available": plain(balance.available),
        "held": plain(balance.held),
        "balance": plain(add([balance.available, balance.held])),
    }


def _sentence(report: dict[str, Any]) -> str:
    did = "Booked" if report["booked"] else "Was booked before, and is not booked again:"
    return (
        f"{did} {report['amount']} {report['currency']} for '{report['account']}'. Its balance is {report['balance']}, "
        f"{report['held']} of it held for running batches. Key: {report['key']}"
    )
