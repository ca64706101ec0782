import json
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction
from django.utils import timezone

from billing_app import api_keys, audit
from billing_app.models import Account

MOST_DAYS = 36_500


class Command(BaseCommand):
    help = "Issues another API key to an account and prints it, once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("account", help="the account's name")
        parser.add_argument("--name", default="", help="what the key is for")
        parser.add_argument("--expires-in-days", type=int, metavar="N")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        account = Account.objects.filter(name=options["account"]).first()
        if account is None:
            raise CommandError(f"There is no account '{options['account']}'. Create it with create_account.")
        days = options["expires_in_days"]
        if days is not None and not 1 <= days <= MOST_DAYS:
            raise CommandError(f"--expires-in-days must be between 1 and {MOST_DAYS}.")
        if len(options["name"]) > 100:
            raise CommandError("--name has at most 100 characters.")
        expires_at = timezone.now() + timedelta(days=days) if days else None
        with transaction.atomic():
            key, secret = api_keys.issue(account, name=options["name"], expires_at=expires_at)
            audit.record(actor=audit.from_shell("create_key"), action="key.issued", target=key, account=account.name)
        report = {"id": key.pk, "account": account.name, "key": secret}
        self.stdout.write(json.dumps(report) if options["json"] else f"Key {key.pk}, shown once: {secret}")
