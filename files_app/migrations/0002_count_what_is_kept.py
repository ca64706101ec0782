from django.db import migrations
from django.db.models import Count, Q, Sum


def count(apps, schema_editor):
    uses = apps.get_model("billing_app", "StorageUse").objects
    kept = apps.get_model("files_app", "StoredFile").objects.order_by().values("account")
    for row in kept.annotate(files=Count("pk", filter=Q(deleted_at=None)), size=Sum("bytes")):
        uses.update_or_create(account_id=row["account"], defaults={"files": row["files"], "bytes": row["size"]})


class Migration(migrations.Migration):
    dependencies = [("files_app", "0001_initial"), ("billing_app", "0002_ledger")]
    operations = [migrations.RunPython(count, migrations.RunPython.noop)]
