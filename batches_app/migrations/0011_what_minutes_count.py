from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("batches_app", "0010_batches_failed_lately"),
    ]
    operations = [
        migrations.AlterField(
            model_name="laneminute",
            name="throttled",
            field=models.PositiveIntegerField(default=0, help_text="Of the answers: 429, 503 and their like."),
        ),
        migrations.AlterField(
            model_name="laneminute",
            name="faults",
            field=models.PositiveIntegerField(
                default=0, help_text="Of the answers: none at all, or another status of 500 or more."
            ),
        ),
        migrations.AlterField(
            model_name="laneminute",
            name="latency",
            field=models.JSONField(default=list, help_text="True answers by latency (traffic.py)."),
        ),
    ]
