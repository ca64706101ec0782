from decimal import Decimal

from django.conf import settings
from django.db import migrations

NAME = "batch-test-model"
PERMITS = 64


def create(apps, schema_editor):
    model = apps.get_model("batches_app", "ServedModel").objects.create(
        name=NAME, endpoints=["/v1/chat/ds-test"], upstream_url="builtin", max_concurrency=PERMITS
    )
    apps.get_model("batches_app", "Lane").objects.create(model=model, number=0, permits=PERMITS)
    apps.get_model("billing_app", "Price").objects.create(
        model_name=NAME,
        input_price=Decimal(0),
        output_price=Decimal(0),
        batch_discount=Decimal("0.5"),
        currency=settings.CURRENCY,
    )


def remove(apps, schema_editor):
    apps.get_model("batches_app", "ServedModel").objects.filter(name=NAME).delete()
    # Its price stays: prices are never deleted.


class Migration(migrations.Migration):
    dependencies = [("batches_app", "0001_initial"), ("billing_app", "0001_initial")]
    operations = [migrations.RunPython(create, remove)]
