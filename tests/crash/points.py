"""Crash points: both sides of each commit, of each write outside of a transaction, of each bell, each blob that is
written or deleted, and each request to the upstream. They are found, not listed: what is new has some from the start.

A point is named after what happens, the side, and the function of ours that does it: `commit after
batches_app.checkpoints.flush`. Each is noted in `points.seen` of the data folder. The process that comes by one that is
named in the folder `points.armed` dies as by kill -9; the name is gone from there then. A bell is named by its job.
"""

import os
import signal
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper

from batches_app import queue
from batches_app.upstream.client import CurlClient
from files_app import blobs

OURS = ("batches_app", "billing_app", "files_app")
WRITES = ("INSERT", "UPDATE", "DELETE")
SEEN, ARMED = "points.seen", "points.armed"

_known: set[str] = set()


def install(folder: Path) -> None:
    armed = folder / ARMED
    armed.mkdir(exist_ok=True)
    _around(BaseDatabaseWrapper, "_commit", "commit", folder)
    _around(queue, "_enqueue", "bell", folder, named=lambda job, *_: job.name)
    _around(blobs, "write", "blob written", folder)
    _around(blobs, "delete", "blob deleted", folder)
    _around(CurlClient, "send", "request", folder)
    _around(CurlClient, "_finish", "answer", folder)
    _around(CursorWrapper, "_execute", "write", folder, when=_is_write_by_itself)


def _is_write_by_itself(cursor: Any, sql: str, *_: Any) -> bool:
    return cursor.db.get_autocommit() and sql.lstrip().startswith(WRITES)


def _around(
    owner: Any,
    name: str,
    what: str,
    folder: Path,
    *,
    when: Callable[..., bool] = lambda *_: True,
    named: Callable[..., str | None] = lambda *_: _place(),
) -> None:
    original = getattr(owner, name)

    @wraps(original)
    def watched(*args: Any, **kwargs: Any) -> Any:
        place = named(*args) if when(*args) else None
        if place is None:
            return original(*args, **kwargs)
        _come_by(f"{what} before {place}", folder)
        result = original(*args, **kwargs)
        _come_by(f"{what} after {place}", folder)
        return result

    setattr(owner, name, watched)


def _place() -> str | None:
    """The nearest function of ours that is at work."""
    frame: Any = sys._getframe(3)
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        if module.partition(".")[0] in OURS:
            return f"{module}.{frame.f_code.co_qualname}"
        frame = frame.f_back
    return None


def _come_by(point: str, folder: Path) -> None:
    if point not in _known:
        _known.add(point)
        with (folder / SEEN).open("a") as seen:
            seen.write(f"{point}\n")
    try:
        os.rmdir(folder / ARMED / point)  # of two that come by at once, one dies
    except OSError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


def arm(folder: Path, point: str) -> None:
    (folder / ARMED / point).mkdir()


def disarm(folder: Path) -> list[str]:
    """What nobody came by."""
    left = sorted(path.name for path in (folder / ARMED).iterdir())
    for point in left:
        (folder / ARMED / point).rmdir()
    return left


def seen(folder: Path) -> list[str]:
    return sorted(set((folder / SEEN).read_text().splitlines()))
