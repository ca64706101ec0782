"""Crash points: both sides of each commit, of each write outside of a transaction, of each bell, each blob that is
written or deleted, and each request to the upstream. They are found, not listed: what is new has some from the start.

A point is named after what happens, the side, and the function of ours that does it: `commit after
batches_app.checkpoints.flush`. Each passing is noted in `points.seen` of the data folder. The process that comes by one
that is named in the folder `points.armed` dies as by kill -9; the name is gone from there then. What is within the name
is one passing each that is let by before. A bell is named by its job.
"""

import os
import shutil
import signal
import sys
from collections import Counter
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
    """The nearest function of ours that is at work, or that has been: of a decorator, the decorated one."""
    frame: Any = sys._getframe(3)
    while frame is not None:
        module, name = str(frame.f_globals.get("__name__", "")), frame.f_code.co_qualname
        if name == "ContextDecorator.__call__.<locals>.inner":
            module, name = frame.f_locals["func"].__module__, frame.f_locals["func"].__qualname__
        if module.partition(".")[0] in OURS:
            return f"{module}.{name}"
        frame = frame.f_back
    return None


def _come_by(point: str, folder: Path) -> None:
    with (folder / SEEN).open("a") as seen:
        seen.write(f"{point}\n")
    armed = folder / ARMED / point
    # Of two that come by at once, one removes a folder, and dies or is let by for it.
    for let_by in _within(armed):
        if _is_removed(let_by):
            return
    if _is_removed(armed):
        os.kill(os.getpid(), signal.SIGKILL)


def _within(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _is_removed(folder: Path) -> bool:
    try:
        folder.rmdir()
    except OSError:
        return False
    return True


def arm(folder: Path, point: str, let_by: int = 0) -> None:
    whole = folder / f"{ARMED}.new" / point
    whole.mkdir(parents=True)
    for number in range(let_by):
        (whole / str(number)).mkdir()
    whole.rename(folder / ARMED / point)


def disarm(folder: Path) -> list[str]:
    """What nobody came by."""
    left = sorted(path.name for path in (folder / ARMED).iterdir())
    for point in left:
        shutil.rmtree(folder / ARMED / point, ignore_errors=True)  # somebody may come by it at this moment
    return left


def passings(folder: Path) -> Counter[str]:
    """How often each was come by, since this was asked the last time."""
    asked = folder / f"{SEEN}.asked"
    (folder / SEEN).rename(asked)  # what is noted meanwhile is for the next one who asks
    return Counter(asked.read_text().splitlines())
