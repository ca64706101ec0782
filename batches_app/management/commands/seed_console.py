import time
from argparse import ArgumentTypeError
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from batches_app.models import Batch
from batches_app.seeding import installation
from batches_app.seeding.cast import OPERATORS

MOST_BATCHES, MOST_ACCOUNTS = 5_000_000, 10_000


class Command(BaseCommand):
    help = (
        "Fills an empty installation with made-up accounts, models and batches, for looking at the console and for "
        "measuring it. It refuses a database that has batches. Batches that have ended are rows without bytes, so that "
        "`billing_reconcile` and downloads find nothing behind them, except for the few newest of the test model."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--batches", type=_up_to(MOST_BATCHES), required=True, metavar="N")
        parser.add_argument("--accounts", type=_up_to(MOST_ACCOUNTS), default=40, metavar="N", help="default 40")
        parser.add_argument("--seed", type=int, default=1, metavar="N", help="another one, other chances (default 1)")

    def handle(self, *args: Any, **options: Any) -> None:
        if Batch.objects.exists():
            raise CommandError("This database has batches. seed_console is for empty installations only.")
        started = time.monotonic()
        now = timezone.now().replace(microsecond=0)
        password = installation.seed(
            options["batches"], options["accounts"], options["seed"], now=now, say=self.stdout.write
        )
        self.stdout.write(f"Done in {time.monotonic() - started:.0f} s.")
        names = ", ".join(f"{name} ({role})" for role, name in OPERATORS.items())
        self.stdout.write(f"Operators: {names}. Their password, shown once: {password}")


def _up_to(most: int) -> Any:
    def number(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= most:
            raise ArgumentTypeError(f"must be a number from 1 to {most:,}")
        return int(text)

    return number
