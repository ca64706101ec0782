from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('batches_app', '0009_list_of_batches'),
    ]

    operations = [
        migrations.AddIndex(
            model_name='batch',
            index=models.Index(condition=models.Q(('status', 'failed')), fields=['failed_at'], name='batches_failed_lately'),
        ),
    ]
