"""The only remover of blobs of files: they stay until their file is deleted or expired and nobody holds it."""

import logging
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

from django.conf import settings
from django.core.files.storage import default_storage
from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet

from billing_app import quotas
from files_app import blobs
from files_app.models import FileHold, StoredFile

logger = logging.getLogger(__name__)

FOLDER = "files"
ORPHAN_DAYS = 7  # how far back orphans are looked for
EXPIRED_AT_ONCE = 1_000
NAMES_AT_ONCE = 500


def hold(file: StoredFile, holder: str) -> bool:
    """Keeps the bytes for `holder`. False: the file has been deleted."""
    with transaction.atomic():
        # Locked, so that a deletion comes before (and there is no row) or after (and sees the hold).
        if not StoredFile.objects.visible().select_for_update().filter(pk=file.pk).exists():
            return False
        FileHold.objects.get_or_create(file=file, holder=holder)
    return True


def release(holder: str) -> None:
    """`holder` needs no file any more."""
    holds = FileHold.objects.filter(holder=holder)
    files = list(holds.values_list("file_id", flat=True))
    holds.delete()
    _remove_on_commit(files)


def delete_file(file: StoredFile, *, now: datetime) -> bool:
    """False: somebody else deleted it."""
    with transaction.atomic():
        marked = StoredFile.objects.visible().filter(pk=file.pk).update(deleted_at=now, idempotency_key=None)
        if marked:
            quotas.keep(file.account, files=-1)  # its bytes count until they are gone (F6)
            _remove_on_commit([file.pk])
    return marked == 1


def expire_due(now: datetime) -> int:
    due = (
        StoredFile.objects.visible()
        .select_related("account")
        .filter(expires_at__lte=now)
        .order_by("expires_at")[:EXPIRED_AT_ONCE]
    )
    return sum(delete_file(file, now=now) for file in due)


def remove_unheld(limit: int) -> int:
    """Deleted files whose removal was put off by a hold or a crash."""
    return _remove(_unheld().order_by("deleted_at")[:limit])


def discard(blob: str) -> None:
    """A blob that no row names, and none will."""
    blobs.delete(blob)


def sweep_orphans(now: datetime) -> int:
    """What a killed process left behind: blobs without a row, and unfinished uploads."""
    before = now - timedelta(seconds=settings.ORPHAN_AGE)
    days = [now.astimezone(UTC) - timedelta(days=days) for days in range(ORPHAN_DAYS + 1)]
    swept = 0
    for day in days:
        folder = f"{FOLDER}/{day:%Y-%m-%d}"
        for names in _in_chunks(f"{folder}/{name}" for name in blobs.names_in(folder)):
            known = set(StoredFile.objects.filter(blob__in=names).values_list("blob", flat=True))
            orphans = [name for name in names if name not in known and _is_older(name, before)]
            for name in orphans:
                discard(name)
            swept += len(orphans)
    return swept + _sweep_incoming(before)


def _remove_on_commit(files: list[int]) -> None:
    # Robust: the deletion has happened, and what fails here is done by `remove_unheld`. A lambda, not a partial:
    # to log the failure Django asks for the callable's __qualname__.
    transaction.on_commit(lambda: _remove_these(files), robust=True)


def _remove_these(files: list[int]) -> None:
    _remove(_unheld().filter(pk__in=files))


def _unheld() -> QuerySet[StoredFile]:
    held = Exists(FileHold.objects.filter(file=OuterRef("pk")))
    return StoredFile.objects.select_related("account").exclude(deleted_at=None).filter(~held)


def _remove(files: QuerySet[StoredFile]) -> int:
    removed = 0
    for file in files:
        try:
            # The blob first: after a crash in between, the row still says that there is something to do.
            blobs.delete(file.blob)
        except Exception:  # whatever the storage raises, the other files are not to wait for this one
            logger.exception("Blob %s of file %s could not be deleted", file.blob, file)
            continue
        with transaction.atomic():
            if file.delete()[0]:  # no row: somebody else removed it and counted that
                quotas.keep(file.account, size=-file.bytes)
        removed += 1
    return removed


def _is_older(name: str, before: datetime) -> bool:
    try:
        return default_storage.get_modified_time(name) < before
    except FileNotFoundError:  # gone in the meantime
        return False


def _in_chunks(names: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(names)
    while chunk := list(islice(rest, NAMES_AT_ONCE)):
        yield chunk


def _sweep_incoming(before: datetime) -> int:
    # An upload that still runs has written lately: a silent client is dropped long before ORPHAN_AGE.
    stale = [
        path
        for path in Path(settings.FILE_UPLOAD_TEMP_DIR).iterdir()
        if path.is_file() and path.stat().st_mtime < before.timestamp()
    ]
    for path in stale:
        path.unlink(missing_ok=True)
    return len(stale)
