"""SQLite as Django speaks to it, but a statement that fails is done with at once.

Else its exception holds it, in a cycle, until the garbage collector comes by, in whichever thread. There it waits for
the connection of the statement. Where that one waits for the write lock, and the thread that collects has it, they wait
for each other, and everybody for them, until the timeout of 30 s.
"""

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from django.db.backends.sqlite3 import base


class Cursor(base.SQLiteCursorWrapper):
    def execute(self, *arguments: Any) -> Any:
        return self._closed_by_failure(super().execute, *arguments)

    def executemany(self, *arguments: Any) -> Any:
        return self._closed_by_failure(super().executemany, *arguments)

    def _closed_by_failure(self, run: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return run(*arguments)
        except BaseException:
            with suppress(sqlite3.Error):  # its connection is closed already
                self.close()
            raise


class DatabaseWrapper(base.DatabaseWrapper):
    def create_cursor(self, name: str | None = None) -> Any:
        return self.connection.cursor(factory=Cursor)
