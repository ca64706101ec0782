"""Pages of long lists by the key of their first and last row, (column, id), not by number: a page costs the same
wherever it is, and rows that come or share a value neither repeat nor vanish."""

import base64
import binascii
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar, cast

from django.core.exceptions import EmptyResultSet, ValidationError
from django.db import connection
from django.db.models import BooleanField, F, Field, Func, Model, QuerySet, Value
from django.db.models.expressions import OrderBy
from django.db.models.lookups import GreaterThan, LessThan

MOST_COUNTED = 10_000
MOST_INTEGER = 2**63 - 1
YEARS = range(2, 9999)  # the first and the last overflow when they are moved to UTC

Row = TypeVar("Row", bound=Model)


class BadCursor(ValueError):
    pass


@dataclass(frozen=True, slots=True)
class Sort:
    """By a column that is never null and has an index with the id."""

    column: str
    descending: bool


@dataclass(frozen=True, slots=True)
class Place:
    """After the row with this key, or before it; without a key: at the beginning."""

    key: tuple[Any, int] | None = None
    backwards: bool = False


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    rows: list[Row]
    count: int  # of all pages; more than MOST_COUNTED: nobody knows
    before: str | None  # cursors, where there is such a page
    after: str | None


def cursor(row: Model, sort: Sort) -> str:
    value = _field(type(row), sort).value_to_string(row)
    text = json.dumps([sort.column, value, row.pk], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def place(cursor: str, sort: Sort, model: type[Model], *, backwards: bool) -> Place:
    """Raises BadCursor for what `cursor` above never made."""
    try:
        column, value, pk = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        key = _field(model, sort).to_python(value)
    except (binascii.Error, ValueError, OverflowError, TypeError, RecursionError, ValidationError) as error:
        raise BadCursor from error
    if column != sort.column or type(pk) is not int or not (_is_storable(key) and _is_storable(pk)):
        raise BadCursor
    return Place((key, pk), backwards)


def _field(model: type[Model], sort: Sort) -> "Field[Any, Any]":
    return cast("Field[Any, Any]", model._meta.get_field(sort.column))


def _is_storable(value: object) -> bool:
    if isinstance(value, datetime):
        return value.tzinfo is not None and value.year in YEARS
    if isinstance(value, str):  # PostgreSQL has no NUL in its text, and UTF-8 no half of a surrogate pair
        return "\0" not in value and not any("\ud800" <= letter <= "\udfff" for letter in value)
    return isinstance(value, int) and abs(value) <= MOST_INTEGER


def page(rows: QuerySet[Row], sort: Sort, at: Place, size: int, *, columns: QuerySet[Row] | None = None) -> Page[Row]:
    """`columns`: of the rows that are found, with what is joined to them; which these are is decided before. Where
    many rows match, a database may else begin with the joined table."""
    count, ids = _few(rows, sort, at, size + 1)
    if count <= MOST_COUNTED:
        # Which they are, and whether there are more, is decided: rows that change meanwhile move nothing.
        has_more, found = len(ids) > size, _told(rows if columns is None else columns, ids[:size], sort, at)
    else:
        found = _chosen(rows, sort, at, size + 1, columns)
        has_more, found = len(found) > size, found[:size]
    if at.backwards:
        found.reverse()
    has_before, has_after = (has_more, True) if at.backwards else (at.key is not None, has_more)
    return Page(
        found,
        count,
        before=cursor(found[0], sort) if found and has_before else None,
        after=cursor(found[-1], sort) if found and has_after else None,
    )


def chunks(rows: QuerySet[Row], sort: Sort, size: int, *, columns: QuerySet[Row] | None = None) -> Iterator[list[Row]]:
    """All of them, a chunk at a time and in order: no cursor of the database is held open meanwhile, nor memory."""
    at = Place()
    while chunk := _chosen(rows, sort, at, size, columns):
        yield chunk
        at = Place((getattr(chunk[-1], sort.column), chunk[-1].pk))


def _chosen(rows: QuerySet[Row], sort: Sort, at: Place, most: int, columns: QuerySet[Row] | None) -> list[Row]:
    chosen = _in_order(rows, sort, at)[:most]
    return list(chosen) if columns is None else _told(columns, chosen.values("pk"), sort, at)


_FEW = """
WITH found (pk, value) AS ({rows})
SELECT counted.number, here.pk FROM (SELECT COUNT(*) AS number FROM found) AS counted
LEFT JOIN (SELECT pk, value FROM found {beyond} ORDER BY value {way}, pk {way} LIMIT %s) AS here
    ON counted.number <= %s
ORDER BY here.value {way}, here.pk {way}
"""


def _few(rows: QuerySet[Row], sort: Sort, at: Place, most: int) -> tuple[int, list[int]]:
    """How many rows match; and if they are few, the ids of the page. Then the filters' indexes find them all at once,
    and once for both: of rows in order of the column's index, most of a million may have to be looked at."""
    matching = rows.order_by().values_list("pk", sort.column)[: MOST_COUNTED + 1]
    try:
        sql, values = matching.query.sql_with_params()
    except EmptyResultSet:
        return 0, []
    beyond, key = "", list[Any]()
    if at.key is not None:
        beyond = f"WHERE (value, pk) {'<' if _is_descending(sort, at) else '>'} (%s, %s)"
        key = [_field(rows.model, sort).get_db_prep_value(at.key[0], connection), at.key[1]]
    statement = _FEW.format(rows=sql, beyond=beyond, way="DESC" if _is_descending(sort, at) else "ASC")
    with connection.cursor() as execution:
        execution.execute(statement, (*values, *key, most, MOST_COUNTED))
        found = execution.fetchall()
    return found[0][0], [pk for _, pk in found if pk is not None]


def _in_order(rows: QuerySet[Row], sort: Sort, at: Place) -> QuerySet[Row]:
    if at.key is not None:
        beyond = LessThan if _is_descending(sort, at) else GreaterThan
        rows = rows.filter(beyond(_Pair(F(sort.column), F("pk")), _Pair(*map(Value, at.key))))
    return _ordered(rows, sort, at)


def _told(columns: QuerySet[Row], ids: list[int] | QuerySet[Any, Any], sort: Sort, at: Place) -> list[Row]:
    return list(_ordered(columns.filter(pk__in=ids), sort, at))


def _ordered(rows: QuerySet[Row], sort: Sort, at: Place) -> QuerySet[Row]:
    descending = _is_descending(sort, at)
    return rows.order_by(OrderBy(F(sort.column), descending=descending), OrderBy(F("pk"), descending=descending))


def _is_descending(sort: Sort, at: Place) -> bool:
    return sort.descending != at.backwards


class _Pair(Func):
    """(a, b): compared as a pair, by an index on both."""

    template = "(%(expressions)s)"
    arity = 2
    output_field = BooleanField()  # it has none: what it is compared with is a pair too
