"""What makes an installation ready, and that to ask costs next to nothing, whatever hangs."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client
from django.test.utils import CaptureQueriesContext

from batches_app.watching import readiness
from batches_app.watching.readiness import CHECKS, OK, State, Wanting, Watch
from files_app import blobs
from tests.log_lines import written

SPARE = frozenset({"redis"})
ADDRESS = "postgres://batchdesk:hunter2@10.0.0.7/batchdesk"


def well() -> None:
    return


def broken() -> None:
    raise OperationalError(f"connection to {ADDRESS} failed")


def gone() -> None:
    raise Wanting("away")


def readiness_of(**checks: Callable[[], None]) -> readiness.Readiness:
    return Watch(checks, spare=SPARE).readiness()


@pytest.fixture
def calls() -> list[str]:
    return []


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch, calls: list[str]) -> Iterator[Callable[[], None]]:
    monkeypatch.setattr(readiness, "TIME_LIMIT", 0.1)
    released = threading.Event()

    def hang() -> None:
        calls.append("hang")
        released.wait(10)

    yield hang
    released.set()


def test_all_is_well() -> None:
    found = readiness_of(database=well, redis=well)
    assert (found.state, dict(found.checks)) == (State.READY, {"database": OK, "redis": OK})


def test_without_redis_it_is_degraded_and_not_dead() -> None:
    """Work that nobody rings for is found in the database."""
    found = readiness_of(database=well, redis=gone)
    assert (found.state, found.checks["redis"]) == (State.DEGRADED, "away")


def test_without_anything_else_it_is_not_ready() -> None:
    assert readiness_of(database=broken, redis=gone).state is State.NOT_READY


def test_an_address_is_for_the_log_alone() -> None:
    with written() as log:
        found = readiness_of(database=broken)
    assert found.checks["database"] == "fails"
    assert ADDRESS in log.text


@pytest.mark.django_db
def test_what_hangs_is_not_waited_for_nor_asked_twice(
    hanging: Callable[[], None], calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "KEPT", 0.0)
    watch = Watch({"database": hanging, "blob_store": well}, spare=SPARE)
    for _ in range(3):
        found = watch.readiness()
    assert found.checks["database"].startswith("does not answer")
    assert found.checks["blob_store"] == OK
    assert calls == ["hang"]


def test_who_asks_often_gets_what_was_found_before(calls: list[str]) -> None:
    watch = Watch({"database": lambda: calls.append("look")}, spare=SPARE)
    assert len({id(watch.readiness()) for _ in range(50)}) == 1
    assert len(calls) == 1


def test_each_change_is_logged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "KEPT", 0.0)
    states = iter([well, broken, broken, broken, well, well])
    watch = Watch({"database": lambda: next(states)()}, spare=SPARE)
    with written() as log:
        for _ in range(6):
            watch.readiness()
    assert [(line["level"], line["event"]) for line in log.lines] == [
        ("warning", "database: fails."),
        ("info", "database: ok."),
    ]


# The checks


@pytest.fixture
def blob_folder(settings: Any, tmp_path: Path) -> Path:
    settings.STORAGES = settings.STORAGES | {
        "default": {"BACKEND": "files_app.blobs.DurableFileSystemStorage", "OPTIONS": {"location": tmp_path / "blobs"}}
    }
    return tmp_path / "blobs"


@pytest.mark.django_db
def test_the_database_is_as_the_code_wants_it() -> None:
    CHECKS["database"]()
    CHECKS["migrations"]()


@pytest.mark.django_db
def test_a_migration_that_is_missing_is_named_with_what_to_do() -> None:
    """Not the next one to be asked for: whatever is newest."""
    newest = MigrationRecorder.Migration.objects.filter(app="billing_app").latest("id")
    MigrationRecorder(connection).record_unapplied("billing_app", newest.name)
    with pytest.raises(Wanting, match=r"not all applied \(billing_app\): run manage.py migrate"):
        CHECKS["migrations"]()


def test_a_folder_is_written_to_and_nothing_stays(blob_folder: Path) -> None:
    """The folder is made with the first blob, and until then it is as good as there."""
    CHECKS["blob_store"]()
    assert list(blob_folder.iterdir()) == []


def test_a_folder_that_cannot_be_written_to_is_told_without_its_path(blob_folder: Path) -> None:
    blob_folder.write_text("a file in its place")
    with pytest.raises(Wanting, match=r"^cannot be written: File exists$"):
        CHECKS["blob_store"]()


def test_where_a_write_is_paid_for_there_is_one_in_a_minute(monkeypatch: pytest.MonkeyPatch, calls: list[str]) -> None:
    def ask() -> bool:
        calls.append("ask")
        return True

    monkeypatch.setattr(blobs, "try_to_write", lambda: calls.append("write"))
    monkeypatch.setattr(blobs, "try_to_ask", ask)
    check = readiness.Blobs()
    for _ in range(3):
        check()
    assert calls == ["write", "ask", "ask"]


# The door


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    def ask(**checks: Callable[[], None]) -> Any:
        monkeypatch.setattr(readiness, "watch", Watch(checks, spare=SPARE))
        return Client().get("/readyz", headers={"Host": "10.0.0.1:8000"})

    return ask


def test_a_degraded_one_still_gets_its_requests(door: Callable[..., Any]) -> None:
    answer = door(database=well, redis=gone)
    assert (answer.status_code, answer["Cache-Control"]) == (200, "no-store")
    assert answer.json() == {"status": "degraded", "checks": {"database": "ok", "redis": "away"}}


def test_one_that_is_not_ready_gets_none(door: Callable[..., Any]) -> None:
    answer = door(database=broken)
    assert (answer.status_code, answer.json()) == (503, {"status": "not_ready", "checks": {"database": "fails"}})


@pytest.mark.django_db
def test_it_asks_no_database_by_itself(door: Callable[..., Any]) -> None:
    with CaptureQueriesContext(connection) as queries:
        door(database=well)
    assert not queries


def test_a_name_that_is_none_of_ours_is_refused(door: Callable[..., Any]) -> None:
    """It may be of a page somewhere, that has the name mean this machine."""
    door(database=well)
    assert Client().get("/readyz", headers={"Host": "evil.example"}).status_code == 400
