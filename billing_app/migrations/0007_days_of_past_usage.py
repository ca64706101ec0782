from django.db import migrations
from django.db.models import Sum
from django.db.models.functions import TruncDate
from django.utils import timezone

COUNTS = ("requests", "input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens")


def add_up_past_usage(apps, schema_editor):
    """By day of TIME_ZONE, as the ledger does from now on. Account by account: memory does not grow with the ledger."""
    daily, entries, accounts = (apps.get_model("billing_app", name) for name in ("DailyUsage", "LedgerEntry", "Account"))
    day = TruncDate("created_at", tzinfo=timezone.get_default_timezone())
    groups = entries.objects.filter(kind="usage").annotate(day=day).order_by().values("model_name", "price_id", "day")
    sums = groups.annotate(**{f"sum_of_{name}": Sum(name) for name in COUNTS})
    daily.objects.all().delete()
    for account_id in accounts.objects.values_list("pk", flat=True):
        daily.objects.bulk_create(
            (_row(daily, account_id, group) for group in sums.filter(account_id=account_id)), batch_size=1000
        )


def _row(daily, account_id, group):
    facts = {name: group[name] for name in ("model_name", "price_id", "day")}
    return daily(account_id=account_id, **facts, **{name: group[f"sum_of_{name}"] for name in COUNTS})


class Migration(migrations.Migration):
    dependencies = [("billing_app", "0006_daily_usage")]
    operations = [migrations.RunPython(add_up_past_usage, migrations.RunPython.noop)]
