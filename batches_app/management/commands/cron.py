from typing import Any

from django.core.management.base import BaseCommand

from batches_app import schedule


class Command(BaseCommand):
    help = "Rings the reconciler every 10 seconds. One is enough; several do no harm."

    def handle(self, *args: Any, **options: Any) -> None:
        schedule.run_forever()
