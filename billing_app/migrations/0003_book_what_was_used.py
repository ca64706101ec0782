from django.db import migrations
from django.utils import timezone

from billing_app.pricing import add, minus


def book_what_was_used(apps, schema_editor):
    """Usage becomes an entry of the ledger, which takes it from the balance."""
    entries = apps.get_model("billing_app", "LedgerEntry").objects
    for entry in entries.iterator():
        entries.filter(pk=entry.pk).update(
            amount=minus(entry.amount),
            month=f"{timezone.localtime(entry.created_at, timezone.get_default_timezone()):%Y-%m}",
        )
    for account in apps.get_model("billing_app", "Account").objects.all():
        used = list(entries.filter(account=account).values_list("api_key_id", "month", "amount"))
        balance = add(amount for *_, amount in used)
        apps.get_model("billing_app", "Balance").objects.create(account=account, available=balance)
        for key, month in {(key, month) for key, month, _ in used}:
            amount = minus(add(amount for k, m, amount in used if (k, m) == (key, month)))
            spends = apps.get_model("billing_app", "MonthlySpend").objects
            spends.create(account=account, api_key_id=key or 0, month=month, amount=amount)


def write_prices_in_the_shortest_way(apps, schema_editor):
    """The constraints to come compare text in SQLite."""
    prices = apps.get_model("billing_app", "Price").objects
    for price in prices.all():
        if not 0 <= price.batch_discount <= 1 or price.input_price < 0 or price.output_price < 0:
            raise ValueError(
                f"Price {price.pk} of '{price.model_name}' has a discount that is not from 0 to 1, or is below 0. "
                "Correct that row in billing_app_price, then migrate again."
            )
        rates = {name: getattr(price, name) for name in ("input_price", "output_price", "batch_discount")}
        prices.filter(pk=price.pk).update(**rates)


class Migration(migrations.Migration):
    dependencies = [("billing_app", "0002_ledger")]
    operations = [
        migrations.RunPython(book_what_was_used, migrations.RunPython.noop),
        migrations.RunPython(write_prices_in_the_shortest_way, migrations.RunPython.noop),
    ]
