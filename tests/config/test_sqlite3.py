"""Threads that share a process and wait for SQLite's one write lock."""

import gc
from collections.abc import Iterator
from contextlib import suppress
from threading import Event, Thread

import pytest
from django.db import OperationalError, connection, transaction

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif("connection.vendor != 'sqlite'", reason="of SQLite alone"),
]


@pytest.fixture
def _garbage_stays() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_garbage_stays")
@pytest.mark.parametrize("many", [False, True])
def test_who_has_the_lock_collects_what_failed_in_another_thread_that_waits_for_it(many: bool) -> None:
    """Collected, the statement that failed must not wait for its connection, nor that for the lock."""
    has_failed, failures = Event(), list[Exception]()

    def write(patience: int) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"PRAGMA busy_timeout = {patience}")
        if many:
            connection.cursor().executemany("DELETE FROM files_app_storedfile WHERE id = %s", [(1,)])
        else:
            connection.cursor().execute("BEGIN IMMEDIATE")
            connection.rollback()

    def fail_and_wait() -> None:
        try:
            with suppress(OperationalError):
                write(0)
            has_failed.set()
            write(2_000)
        except OperationalError as error:
            failures.append(error)
        finally:
            connection.close()

    other = Thread(target=fail_and_wait)
    with transaction.atomic():
        other.start()
        assert has_failed.wait(10)
        other.join(0.3)  # it waits for the lock now
        assert gc.collect()
    other.join()
    assert failures == []
