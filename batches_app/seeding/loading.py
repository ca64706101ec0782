"""Many rows at once: COPY on PostgreSQL, executemany on SQLite. The ORM's own way takes ten times as long."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from django.core.management.color import no_style
from django.db import connection
from django.db.models import DateField, DateTimeField, Field, JSONField, Model

from billing_app.models.fields import ExactDecimalField

Row = Sequence[Any]
Prepare = Callable[[Any], Any]


class Table:
    """The columns that rows come with; the others get the model's defaults."""

    def __init__(self, model: type[Model], *names: str) -> None:
        fields = {field.attname: field for field in model._meta.concrete_fields}
        rest = [field for name, field in fields.items() if name not in names and not field.primary_key]
        quote = connection.ops.quote_name
        self._given = [fields[name] for name in names]
        self._rest = tuple(field.get_db_prep_save(field.get_default(), connection) for field in rest)
        self._name = quote(model._meta.db_table)
        self._columns = ", ".join(quote(str(field.column)) for field in [*self._given, *rest])
        self._prepared = [(n, prepare) for n, field in enumerate(self._given) if (prepare := _preparing(field))]

    def load(self, rows: Iterable[Row]) -> None:
        prepared = map(self._prepare, rows)
        if connection.vendor == "postgresql":
            self._copy(prepared)
        else:
            marks = ", ".join(["%s"] * (len(self._given) + len(self._rest)))
            with connection.cursor() as cursor:
                cursor.executemany(f"INSERT INTO {self._name} ({self._columns}) VALUES ({marks})", list(prepared))  # nosec  # our own

    def _copy(self, rows: Iterable[Row]) -> None:
        with connection.cursor() as cursor, cursor.copy(f"COPY {self._name} ({self._columns}) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)

    def _prepare(self, row: Row) -> Row:
        values = [*row, *self._rest]
        for number, prepare in self._prepared:
            values[number] = prepare(values[number])
        return values


def _preparing(field: "Field[Any, Any]") -> Prepare | None:
    """How a value goes to the database; None where it goes as it is."""
    if isinstance(field, DateTimeField):
        return connection.ops.adapt_datetimefield_value
    if isinstance(field, DateField):
        return connection.ops.adapt_datefield_value
    if isinstance(field, JSONField | ExactDecimalField):
        return lambda value: field.get_db_prep_save(value, connection)
    return None


def next_id(model: type[Model]) -> int:
    last = model._default_manager.order_by("-pk").values_list("pk", flat=True).first()
    return (last or 0) + 1


def heed_given_ids(*models: type[Model]) -> None:
    """PostgreSQL counts on from where it was, whatever ids rows came with."""
    for statement in connection.ops.sequence_reset_sql(no_style(), models):
        with connection.cursor() as cursor:
            cursor.execute(statement)


def gather_statistics() -> None:
    """As the database would by itself in time; VACUUM, so that PostgreSQL's index-only scans are as fast as later."""
    can_vacuum = connection.vendor == "postgresql" and not connection.in_atomic_block
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE" if can_vacuum else "ANALYZE")
