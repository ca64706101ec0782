"""SQLite as Django speaks to it, but a statement that fails is done with at once.

Else its exception holds it, in a cycle, until the garbage collector comes by, in whichever thread. There it waits for
the connection of the statement. Where that one waits for the write lock, and the thread that collects has it, they wait
for each other, and everybody for them, until the timeout of 30 s.
"""

import sqlite3
from contextlib import suppress
from typing import Any

from django.db.backends.sqlite3 import base


class Cursor(base.SQLiteCursorWrapper):
    def execute(self, *arguments: Any) -> Any:
        try:
            return super().execute(*arguments)
        except BaseException:
            self._give_up()
            raise

    def executemany(self, *arguments: Any) -> Any:
        try:
            return super().executemany(*arguments)
        except BaseException:
            self._give_up()
            raise

    def _give_up(self) -> None:
        with suppress(sqlite3.Error):  # its connection is closed already
            self.close()


class DatabaseWrapper(base.DatabaseWrapper):
    def create_cursor(self, name: str | None = None) -> Any:
        return self.connection.cursor(factory=Cursor)
