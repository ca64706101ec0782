"""Whether this installation can do its work, as seen from this process: for who routes requests to it."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache

from django.db import Error, connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

from batches_app import queue
from files_app import blobs

log = logging.getLogger(__name__)

TIME_LIMIT = 2.0  # seconds, for each check
KEPT = 2.0  # seconds, so that who asks often asks the database no more for it
WRITE_INTERVAL = 60.0  # seconds: where a write is paid for, one proves as much as a hundred

OK, LATE = "ok", f"does not answer within {TIME_LIMIT:.0f} s"


class State(StrEnum):
    READY = "ready"
    DEGRADED = "degraded"  # it works: what waits for Redis is found in the database, later
    NOT_READY = "not_ready"


class Wanting(Exception):
    """What a check found. Its only argument says it, without an address or a secret."""


@dataclass(frozen=True, slots=True)
class Readiness:
    """`checks`: OK, or what is wrong, by name."""

    state: State
    checks: Mapping[str, str]


def _database() -> None:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except Error as error:
        raise Wanting("cannot be reached") from error


def _migrations() -> None:
    try:
        missing = _newest_migrations() - set(MigrationRecorder(connection).applied_migrations())
    except Error as error:
        raise Wanting("not known, without the database") from error
    if missing:
        raise Wanting(f"not all applied ({', '.join(sorted(app for app, _ in missing))}): run manage.py migrate")


@cache
def _newest_migrations() -> frozenset[tuple[str, str]]:
    """Of each app, as the code has it."""
    return frozenset(MigrationLoader(None).graph.leaf_nodes())


class Blobs:
    def __init__(self) -> None:
        self._written_at = float("-inf")

    def __call__(self) -> None:
        try:
            if time.monotonic() < self._written_at + WRITE_INTERVAL and blobs.try_to_ask():
                return
            blobs.try_to_write()
            self._written_at = time.monotonic()
        except OSError as error:
            raise Wanting(f"cannot be written: {error.strerror or type(error).__name__}") from error


def _redis() -> None:
    if why := queue.wanting():
        raise Wanting(why)


class Check:
    """Runs in a thread of its own, so that what hangs holds up nobody; and at most in one."""

    def __init__(self, run: Callable[[], None], name: str) -> None:
        self._run, self._name = run, name
        self._thread: threading.Thread | None = None
        self._found = self._told = OK

    def begin(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._look, daemon=True, name=f"check of the {self._name}")
            self._found = LATE
            self._thread.start()

    def found(self, *, by: float) -> str:
        assert self._thread is not None
        self._thread.join(max(0.0, by - time.monotonic()))
        found = self._found
        self._tell(found, None)
        return found

    def _look(self) -> None:
        try:
            self._run()
            self._found = OK
        except Wanting as error:
            self._tell(str(error), error.__cause__)
            self._found = str(error)
        except Exception as error:  # whatever a driver or a storage raises: it is that which was asked for
            self._tell("fails", error)
            self._found = "fails"
        finally:
            connection.close()  # this thread's own

    def _tell(self, found: str, error: BaseException | None) -> None:
        """Once, for who is asked every second."""
        if found != self._told:
            self._told = found
            log.log(logging.INFO if found == OK else logging.WARNING, "%s: %s.", self._name, found, exc_info=error)


class Watch:
    """`run`: what is checked, by name. Of what is named in `spare`, nothing is lost while it is away."""

    def __init__(self, run: Mapping[str, Callable[[], None]], *, spare: frozenset[str]) -> None:
        self._checks = {name: Check(check, name) for name, check in run.items()}
        self._spare = spare
        self._lock = threading.Lock()
        self._last: Readiness | None = None
        self._until = 0.0

    def readiness(self) -> Readiness:
        with self._lock:
            if self._last is None or time.monotonic() >= self._until:
                self._last = self._look()
                self._until = time.monotonic() + KEPT
            return self._last

    def _look(self) -> Readiness:
        deadline = time.monotonic() + TIME_LIMIT
        for check in self._checks.values():
            check.begin()
        found = {name: check.found(by=deadline) for name, check in self._checks.items()}
        wanting = {name for name, words in found.items() if words != OK}
        state = State.READY if not wanting else State.DEGRADED if wanting <= self._spare else State.NOT_READY
        return Readiness(state, found)


CHECKS: Mapping[str, Callable[[], None]] = {
    "database": _database,
    "migrations": _migrations,
    "blob_store": Blobs(),
    "redis": _redis,
}


watch = Watch(CHECKS, spare=frozenset({"redis"}))
