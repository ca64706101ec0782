"""What wakes workers, seen from the worker."""

from typing import Any

import pytest
import rq

from batches_app import queue


def test_a_worker_tells_of_a_dead_work_horse_without_a_database_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next work-horses would share it: one killed in a transaction would leave its locks behind for ever.

    Without the mark, pytest-django refuses each use of the database.
    """
    told: list[Any] = []
    monkeypatch.setattr(rq.Worker, "handle_work_horse_killed", lambda *_: None)
    monkeypatch.setattr(queue, "_enqueue", lambda *call: told.append(call))
    worker = queue.Worker.__new__(queue.Worker)
    worker.handle_work_horse_killed(None, 4711, 9, None)
    assert told == [(queue.Job.BURY, "bury-4711", None, {"owner": queue.owner_name(4711)})]


def test_a_worker_survives_that_nobody_can_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rq.Worker, "handle_work_horse_killed", lambda *_: None)
    worker = queue.Worker.__new__(queue.Worker)
    worker.handle_work_horse_killed(None, 4711, 9, None)  # nobody answers at the tests' REDIS_URL
