from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from billing_app import statements
from billing_app.models import Account
from billing_app.statement_formats import as_csv, as_json, as_text


class Command(BaseCommand):
    help = "Prints an account's statement for a month. That of a closed month never changes."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("account", help="the account's name")
        parser.add_argument("month", help="such as 2026-11")
        parser.add_argument("--format", choices=["text", "csv", "json"], default="text")
        parser.add_argument(
            "--json", action="store_const", const="json", dest="format", help="the same as --format json"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        account = Account.objects.filter(name=options["account"]).first()
        if account is None:
            raise CommandError(f"There is no account '{options['account']}'. The console lists them.")
        try:
            statement = statements.of(account, options["month"], now=timezone.now())
        except statements.NoStatement as error:
            raise CommandError(str(error)) from None
        formats = {"csv": as_csv, "json": as_json}
        render = formats.get(options["format"])
        self.stdout.write(render(statement) if render else as_text(statement, account.name), ending="")
