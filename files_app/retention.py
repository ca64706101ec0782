"""The only remover of blobs of files: they stay until their file is deleted or expired and nobody holds it, those of
an upload's parts until the upload has ended."""

import logging
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet

from billing_app import quotas
from files_app import blobs
from files_app.models import FileHold, MultipartUpload, StoredFile, UploadPart

logger = logging.getLogger(__name__)

FOLDER, PARTS_FOLDER = "files", "parts"
ORPHAN_DAYS = 7  # how far back orphans are looked for
EXPIRED_AT_ONCE = 1_000
NAMES_AT_ONCE = 500
PARTS_AT_ONCE = 100
UPLOADS_KEPT = timedelta(days=7)  # after their end, so that a late call is told what became of them


def folder_of(folder: str, day: datetime) -> str:
    return f"{folder}/{day.astimezone(UTC):%Y-%m-%d}"


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
    return sum(delete_file(file, now=now) for file in due) + _expire_uploads(now)


def remove_unheld(limit: int) -> int:
    """Deleted files whose removal was put off by a hold or a crash; and parts of uploads that have ended."""
    return _remove(_unheld().order_by("deleted_at")[:limit]) + _remove_parts(_unwanted().order_by("pk")[:limit])


def end_upload(upload: MultipartUpload, status: MultipartUpload.Status, **facts: str) -> bool:
    """F10: its parts are removed on commit. False: it had ended before."""
    pending = MultipartUpload.objects.filter(pk=upload.pk, status=MultipartUpload.Status.PENDING)
    if not pending.update(status=status, **facts):
        return False
    parts = _unwanted().filter(upload=upload.pk)[:PARTS_AT_ONCE]  # more are for `remove_unheld`
    transaction.on_commit(lambda: _remove_parts(parts), robust=True)
    return True


def abandon_upload(upload: MultipartUpload, status: MultipartUpload.Status) -> bool:
    """It is cancelled or expired, and its room given back. False: it had ended before."""
    with transaction.atomic():
        ended = end_upload(upload, status)
        if ended and (room := upload.room):
            quotas.give_back(room)
    return ended


def discard(blob: str) -> None:
    """A blob that no row names, and none will."""
    blobs.delete(blob)


def sweep_orphans(now: datetime) -> int:
    """What a killed process left behind: blobs without a row, and unfinished uploads."""
    before = now - timedelta(seconds=settings.ORPHAN_AGE)
    days = [now - timedelta(days=days) for days in range(ORPHAN_DAYS + 1)]
    swept = sum(_sweep(folder_of(FOLDER, day), StoredFile.objects.all(), before) for day in days)
    swept += sum(_sweep(folder_of(PARTS_FOLDER, day), UploadPart.objects.all(), before) for day in days)
    _forget_uploads(now)
    return swept + _sweep_incoming(before)


def _sweep(folder: str, rows: "QuerySet[StoredFile] | QuerySet[UploadPart]", before: datetime) -> int:
    swept = 0
    for names in _in_chunks(f"{folder}/{name}" for name in blobs.names_in(folder)):
        known = set(rows.filter(blob__in=names).values_list("blob", flat=True))
        orphans = [name for name in names if name not in known and _is_older(name, before)]
        for name in orphans:
            discard(name)
        swept += len(orphans)
    return swept


def _expire_uploads(now: datetime) -> int:
    due = MultipartUpload.objects.due(now).order_by("expires_at")[:EXPIRED_AT_ONCE]
    return sum(abandon_upload(upload, MultipartUpload.Status.EXPIRED) for upload in due)


def _forget_uploads(now: datetime) -> None:
    has_parts = Exists(UploadPart.objects.filter(upload=OuterRef("pk")))
    MultipartUpload.objects.ended().filter(~has_parts, expires_at__lt=now - UPLOADS_KEPT).delete()


def _remove_on_commit(files: list[int]) -> None:
    # Robust: the deletion has happened, and what fails here is done by `remove_unheld`. A lambda, not a partial:
    # to log the failure Django asks for the callable's __qualname__.
    transaction.on_commit(lambda: _remove_these(files), robust=True)


def _remove_these(files: list[int]) -> None:
    _remove(_unheld().filter(pk__in=files))


def _unheld() -> QuerySet[StoredFile]:
    held = Exists(FileHold.objects.filter(file=OuterRef("pk")))
    return StoredFile.objects.select_related("account").exclude(deleted_at=None).filter(~held)


def _unwanted() -> QuerySet[UploadPart]:
    return UploadPart.objects.exclude(upload__status=MultipartUpload.Status.PENDING)


def _remove(files: QuerySet[StoredFile]) -> int:
    removed = 0
    for file in files:
        if not _is_removed(file):
            continue
        with transaction.atomic():
            if file.delete()[0]:  # no row: somebody else removed it and counted that
                quotas.keep(file.account, size=-file.bytes)
        removed += 1
    return removed


def _remove_parts(parts: QuerySet[UploadPart]) -> int:
    removed = [part.pk for part in parts if _is_removed(part)]
    UploadPart.objects.filter(pk__in=removed).delete()
    return len(removed)


def _is_removed(row: StoredFile | UploadPart) -> bool:
    """The blob goes first: after a crash in between, the row still says that there is something to do."""
    try:
        blobs.delete(row.blob)
    except Exception:  # whatever the storage raises, the others are not to wait for this one
        logger.exception("Blob %s of %s could not be deleted", row.blob, row)
        return False
    return True


def _is_older(name: str, before: datetime) -> bool:
    try:
        return blobs.modified_at(name) < before
    except FileNotFoundError:  # gone in the meantime
        return False


def _in_chunks(names: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(names)
    while chunk := list(islice(rest, NAMES_AT_ONCE)):
        yield chunk


def _sweep_incoming(before: datetime) -> int:
    # An upload that still runs has written lately: a silent client is dropped long before ORPHAN_AGE.
    stale = [path for path in Path(settings.FILE_UPLOAD_TEMP_DIR).iterdir() if _was_left(path, before)]
    for path in stale:
        path.unlink(missing_ok=True)
    return len(stale)


def _was_left(path: Path, before: datetime) -> bool:
    try:
        return path.is_file() and path.stat().st_mtime < before.timestamp()
    except FileNotFoundError:  # its upload has just ended
        return False
