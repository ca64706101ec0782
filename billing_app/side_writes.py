"""Writes on the side of a request: worth a try, and not worth a wait."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings
from django.db import connection


@contextmanager
def no_waiting() -> Iterator[None]:
    """SQLite has one writer: a request that only reads must not queue for the lock to note something down."""
    if connection.vendor != "sqlite" or connection.in_atomic_block:
        yield
        return
    patience = int(settings.DATABASES["default"].get("OPTIONS", {}).get("timeout", 5) * 1000)
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA busy_timeout = 0")
        try:
            yield
        finally:
            cursor.execute(f"PRAGMA busy_timeout = {patience}")
