"""F10: an upload's parts, put together to be one file. Nothing is visible before one transaction makes the file known
and ends the upload; of two that do the same work, one wins."""

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic

from django.conf import settings
from django.core.files.uploadedfile import TemporaryUploadedFile
from django.db.models import Q
from django.utils import timezone

from config.api.errors import quoted
from files_app import blobs, retention, uploads
from files_app.models import MultipartUpload, StoredFile, UploadPart
from files_app.multipart_uploads import NotPending, Status, check_pending

CHUNK_BYTES = 256 * 1024


class UnfitParts(Exception):
    """The parts are not what was announced. The argument says why."""


class WrongChecksum(Exception):
    """The argument is the md5 of the parts' bytes."""


class UnderWay(Exception):
    """Another call is at it. The argument is the number of seconds after which it would be taken for dead."""


@dataclass(frozen=True, slots=True)
class Completion:
    part_ids: Sequence[str]
    md5: str | None = None  # in lower case

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(json.dumps([*self.part_ids, self.md5]).encode()).hexdigest()


def complete(upload: MultipartUpload, wanted: Completion, *, now: datetime) -> None:
    """The same call again, or at the same time, finds the same file.

    Raises UnfitParts, WrongChecksum, UnderWay, NotPending, quotas.QuotaReached. The upload stays as it was then.
    """
    try:
        _complete(upload, wanted, now)
    except (NotPending, UnfitParts, FileNotFoundError):  # parts go when the upload ends
        upload.refresh_from_db()
        if upload.completed_by == wanted.fingerprint:
            return
        check_pending(upload, now=now)
        raise
    upload.refresh_from_db()


def _complete(upload: MultipartUpload, wanted: Completion, now: datetime) -> None:
    check_pending(upload, now=now)
    parts = _parts(upload, wanted.part_ids)
    with Lease(upload, now) as lease, TemporaryUploadedFile("whole", "", 0, "") as content:
        sha256 = _assemble(parts, content, wanted.md5, lease)
        purpose = StoredFile.Purpose(upload.purpose)
        whole = uploads.Upload(content, sha256, upload.filename, purpose, upload.expires_after)
        blob = uploads.write_blob(whole, now=now)
        with uploads.naming(blob):
            _conclude(upload, wanted, whole, blob, now)


def _parts(upload: MultipartUpload, part_ids: Sequence[str]) -> list[UploadPart]:
    found = upload.parts.in_bulk(part_ids, field_name="public_id")
    seen: set[str] = set()
    for part_id in part_ids:
        if part_id not in found:
            raise UnfitParts(f"This upload has no part '{quoted(part_id)}'.")
        if part_id in seen:
            raise UnfitParts(f"Part '{part_id}' is named more than once.")
        seen.add(part_id)
    size = sum(part.bytes for part in found.values())
    if size != upload.bytes:
        raise UnfitParts(f"The parts have {size} bytes in all, but {upload.bytes} bytes were announced.")
    return [found[part_id] for part_id in part_ids]


class Lease:
    """Keeps others from the same work in vain, and from the room on the disk that it takes. That there is one file in
    the end is for `retention.end_upload` to say. Raises UnderWay, or NotPending where the upload has ended."""

    def __init__(self, upload: MultipartUpload, now: datetime) -> None:
        self._upload = upload
        self._pending = MultipartUpload.objects.filter(pk=upload.pk, status=Status.PENDING)
        self._take(Q(lease_expires_at=None) | Q(lease_expires_at__lte=now), now)

    def __enter__(self) -> "Lease":
        return self

    def __exit__(self, *_: object) -> None:
        self._pending.filter(lease_expires_at=self._until).update(lease_expires_at=None)

    def renew_in_time(self) -> None:
        if monotonic() > self._renew_at:
            self._take(Q(lease_expires_at=self._until), timezone.now())

    def _take(self, whose: Q, now: datetime) -> None:
        until = now + timedelta(seconds=settings.UPLOAD_LEASE)
        if not self._pending.filter(whose).update(lease_expires_at=until):
            self._give_up(now)
        self._until = until
        self._renew_at = monotonic() + settings.UPLOAD_LEASE / 4

    def _give_up(self, now: datetime) -> None:
        self._upload.refresh_from_db()
        check_pending(self._upload, now=now)
        left = (self._upload.lease_expires_at or now) - now
        raise UnderWay(max(1, math.ceil(left.total_seconds())))


def _assemble(parts: Sequence[UploadPart], content: TemporaryUploadedFile, md5: str | None, lease: Lease) -> str:
    """Returns the sha256."""
    sha256, checksum = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    for chunk in _chunks(parts):
        content.write(chunk)
        sha256.update(chunk)
        if md5:
            checksum.update(chunk)
        lease.renew_in_time()
    if md5 and checksum.hexdigest() != md5:
        raise WrongChecksum(checksum.hexdigest())
    content.flush()
    content.size = content.tell()
    content.seek(0)
    return sha256.hexdigest()


def _chunks(parts: Sequence[UploadPart]) -> Iterator[bytes]:
    for part in parts:
        with blobs.read(part.blob) as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk


def _conclude(upload: MultipartUpload, wanted: Completion, whole: uploads.Upload, blob: str, now: datetime) -> None:
    # The upload's row is locked first, as by whoever adds a part or abandons it.
    won = retention.end_upload(upload, Status.COMPLETED, completed_by=wanted.fingerprint)
    room = upload.room
    if not won or room is None:
        raise NotPending(Status.EXPIRED)
    file = uploads.insert(upload.account, whole, blob, room, now=now)
    MultipartUpload.objects.filter(pk=upload.pk).update(file_public_id=file.public_id)
