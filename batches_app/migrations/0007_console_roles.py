from django.db import migrations

from batches_app.roles import create_groups


class Migration(migrations.Migration):
    dependencies = [
        ("batches_app", "0006_console"),
        ("billing_app", "0006_daily_usage"),
    ]
    operations = [migrations.RunPython(create_groups, migrations.RunPython.noop)]
