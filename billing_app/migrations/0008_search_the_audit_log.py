from django.db import DatabaseError, migrations, models, transaction

SEARCHED = ("target", "reason")


def help_postgresql(apps, schema_editor):
    """Parts of texts are found by their trigrams, where the extension can be had; without it every text is read."""
    if schema_editor.connection.vendor != "postgresql":
        return
    try:
        with transaction.atomic(using=schema_editor.connection.alias), schema_editor.connection.cursor() as cursor:
            cursor.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
            for column in SEARCHED:
                cursor.execute(
                    f"CREATE INDEX audit_by_part_of_{column} ON billing_app_auditentry "
                    f"USING gin (UPPER({column}::text) gin_trgm_ops)"
                )
    except DatabaseError as error:
        print(f"\n  Without pg_trgm, the audit log is searched slowly: {error}".rstrip())


def undo(apps, schema_editor):
    """The extension stays: somebody else may use it by now."""
    if schema_editor.connection.vendor == "postgresql":
        with schema_editor.connection.cursor() as cursor:
            for column in SEARCHED:
                cursor.execute(f"DROP INDEX IF EXISTS audit_by_part_of_{column}")


class Migration(migrations.Migration):
    dependencies = [("billing_app", "0007_days_of_past_usage")]
    operations = [
        migrations.AddIndex("auditentry", models.Index(fields=["actor"], name="audit_by_actor")),
        migrations.AddIndex(
            "auditentry", models.Index(fields=["action"], name="audit_by_action", opclasses=["varchar_pattern_ops"])
        ),
        migrations.RunPython(help_postgresql, undo),
    ]
