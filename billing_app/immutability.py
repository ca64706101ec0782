"""Triggers that refuse to change or delete rows of a table, for whoever asks: code, a shell, a database client."""

from django.db.backends.base.schema import BaseDatabaseSchemaEditor

# With what, besides its id, makes a row the same: SQLite's INSERT OR REPLACE removes such a row without a DELETE.
TABLES = {
    "billing_app_price": "FALSE",
    "billing_app_ledgerentry": "key = NEW.key",
    "billing_app_closedmonth": "account_id = NEW.account_id AND month = NEW.month",
    "billing_app_auditentry": "FALSE",
}
MESSAGE = "rows of {table} are added, never changed or deleted"


def protect(schema_editor: BaseDatabaseSchemaEditor, table: str) -> None:
    message = MESSAGE.format(table=table)
    if schema_editor.connection.vendor == "sqlite":
        for event in ("UPDATE", "DELETE"):
            schema_editor.execute(
                f"CREATE TRIGGER {table}_no_{event.lower()} BEFORE {event} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{message}'); END"
            )
        schema_editor.execute(
            f"CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table} "  # nosec  # our own tables
            f"WHEN EXISTS (SELECT 1 FROM {table} WHERE id = NEW.id OR {TABLES[table]}) "
            f"BEGIN SELECT RAISE(ABORT, '{message}'); END"
        )
        return
    schema_editor.execute(
        f"CREATE FUNCTION {table}_refuse() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{message}' USING ERRCODE = 'integrity_constraint_violation'; END $$"
    )
    schema_editor.execute(
        f"CREATE TRIGGER {table}_immutable BEFORE UPDATE OR DELETE ON {table} "
        f"FOR EACH ROW EXECUTE FUNCTION {table}_refuse()"
    )
    schema_editor.execute(
        f"CREATE TRIGGER {table}_kept BEFORE TRUNCATE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION {table}_refuse()"
    )


def unprotect(schema_editor: BaseDatabaseSchemaEditor, table: str) -> None:
    if schema_editor.connection.vendor == "sqlite":
        for event in ("update", "delete", "replace"):
            schema_editor.execute(f"DROP TRIGGER IF EXISTS {table}_no_{event}")
        return
    schema_editor.execute(f"DROP TRIGGER IF EXISTS {table}_immutable ON {table}")
    schema_editor.execute(f"DROP TRIGGER IF EXISTS {table}_kept ON {table}")
    schema_editor.execute(f"DROP FUNCTION IF EXISTS {table}_refuse()")


def protect_all(apps: object, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """For a migration. SQLite copies a table whose columns change, and leaves its triggers behind: such a migration
    protects it anew."""
    for table in TABLES:
        protect(schema_editor, table)


def unprotect_all(apps: object, schema_editor: BaseDatabaseSchemaEditor) -> None:
    for table in TABLES:
        unprotect(schema_editor, table)
