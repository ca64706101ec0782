import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction
from django.utils import timezone

from billing_app import api_keys, audit
from billing_app.models import APIKey


class Command(BaseCommand):
    help = "Revokes an API key; within five seconds no process accepts it any more."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("id", type=int, help="as create_key printed it; the console lists them")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        key = APIKey.objects.filter(pk=options["id"]).first()
        if key is None:
            raise CommandError(f"There is no key {options['id']}.")
        with transaction.atomic():
            revoked = api_keys.revoke(key, now=timezone.now())
            if revoked:
                actor = audit.from_shell("revoke_key")
                audit.record(actor=actor, action="key.revoked", target=key, account=key.account.name)
        said = f"Key {key.pk} ({key.hint}) {'is revoked' if revoked else 'was revoked before'}."
        self.stdout.write(json.dumps({"id": key.pk, "revoked": revoked}) if options["json"] else said)
