from django.db import DatabaseError, migrations, models, transaction


def index_parts_of_names(apps, schema_editor):
    """Part of a filename is found by its trigrams, where the extension can be had; without it every name is read."""
    if schema_editor.connection.vendor != "postgresql":
        return
    with schema_editor.connection.cursor() as cursor:
        try:
            with transaction.atomic(using=schema_editor.connection.alias):
                cursor.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
                cursor.execute("CREATE INDEX files_by_part_of_name ON files_app_storedfile USING gin (UPPER(filename::text) gin_trgm_ops)")
        except DatabaseError as error:
            print(f"\n  Without pg_trgm, filenames are searched slowly: {error}".rstrip())


def undo(apps, schema_editor):
    """The extension stays: somebody else may use it by now."""
    if schema_editor.connection.vendor == "postgresql":
        with schema_editor.connection.cursor() as cursor:
            cursor.execute("DROP INDEX IF EXISTS files_by_part_of_name")


class Migration(migrations.Migration):

    dependencies = [
        ('billing_app', '0006_daily_usage'),
        ('files_app', '0002_count_what_is_kept'),
    ]

    operations = [
        migrations.AddIndex(
            model_name='storedfile',
            index=models.Index(fields=['created_at', 'id'], name='files_by_creation'),
        ),
        migrations.AddIndex(
            model_name='storedfile',
            index=models.Index(fields=['account', 'created_at', 'id'], name='files_by_account'),
        ),
        migrations.RunPython(index_parts_of_names, undo),
    ]
