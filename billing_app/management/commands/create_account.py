import json
import re
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from billing_app import api_keys
from billing_app.models import Account, EnqueuedTokenLimit

MOST_WEIGHT = 1_000


class Command(BaseCommand):
    help = "Creates an account and prints its first key, once. An account that exists keeps its keys."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name")
        parser.add_argument("--weight", type=int, help="share of a busy model: 2 gets twice 1")
        parser.add_argument(
            "--token-limit", action="append", default=[], metavar="MODEL=N", help="most tokens enqueued for a model"
        )
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        limits = dict(_limit(text) for text in options["token_limit"])
        if options["weight"] is not None and not 1 <= options["weight"] <= MOST_WEIGHT:
            raise CommandError(f"--weight must be between 1 and {MOST_WEIGHT}.")
        try:
            Account._meta.get_field("name").clean(options["name"].strip(), None)
        except ValidationError as error:
            raise CommandError(f"The account's name cannot be {options['name']!r}: {error.messages[0]}") from None
        with transaction.atomic():
            account, created = Account.objects.get_or_create(name=options["name"])
            if options["weight"] is not None:
                Account.objects.filter(pk=account.pk).update(weight=options["weight"])
            for model_name, tokens in limits.items():
                EnqueuedTokenLimit.objects.update_or_create(
                    account=account, model_name=model_name, defaults={"tokens": tokens}
                )
            key = api_keys.issue(account, name="first key")[1] if created else None
        report = {"id": account.pk, "name": account.name, "created": created} | ({"key": key} if key else {})
        said = f"Created account '{account.name}'. Its API key, shown once: {key}"
        exists = f"Account '{account.name}' exists already; its keys are unchanged (create_key makes another)."
        self.stdout.write(json.dumps(report) if options["json"] else said if created else exists)


def _limit(text: str) -> tuple[str, int]:
    model_name, _, tokens = text.rpartition("=")
    if not model_name or not re.fullmatch(r"[0-9]{1,15}", tokens):
        raise CommandError(f"--token-limit must look like MODEL=N, not {text!r}.")
    return model_name, int(tokens)
