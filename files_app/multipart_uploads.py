"""F10: a file that comes in parts. Each part is a blob, until `assembly` has made the file's of them.

An upload has room for the announced size, and for one file, for as long as it may be pending (F9); where its parts
have more bytes than that, for example because one was sent twice, for these too.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.db import transaction
from django.db.models import F

from billing_app import quotas
from billing_app.models import Account
from config.api.errors import ApiError, BadRequest
from files_app import blobs, retention, uploads
from files_app.models import MultipartUpload, StoredFile, UploadPart

PART_FIELD = "data"
Status = MultipartUpload.Status


class NotPending(Exception):
    """The argument is the upload's status."""


class PartHandler(uploads.BlobUploadHandler):
    wanted_field = PART_FIELD

    @property
    def most_bytes(self) -> int:
        return settings.MAX_PART_BYTES

    def too_large(self) -> ApiError:
        message = f"The part is too large: it may have {self.most_bytes} bytes at most."
        return BadRequest(message, param=PART_FIELD, code="invalid_value")


class PartParser(uploads.UploadParser):
    handler = PartHandler


@dataclass(frozen=True, slots=True)
class Announcement:
    filename: str
    size: int
    purpose: StoredFile.Purpose = StoredFile.Purpose.BATCH
    expires_after: int | None = None  # seconds


def create(account: Account, announced: Announcement, *, now: datetime) -> MultipartUpload:
    """Raises quotas.QuotaReached."""
    expires_at = now + timedelta(seconds=settings.UPLOAD_SECONDS)
    with transaction.atomic():
        return MultipartUpload.objects.create(
            account=account,
            reservation=quotas.reserve(account, announced.size, now=now, until=expires_at),
            filename=announced.filename,
            purpose=announced.purpose,
            bytes=announced.size,
            expires_after=announced.expires_after,
            created_at=now,
            expires_at=expires_at,
        )


def check_pending(upload: MultipartUpload, *, now: datetime) -> None:
    """Raises NotPending."""
    if (status := upload.status_at(now)) != Status.PENDING:
        raise NotPending(status)


def add_part(upload: MultipartUpload, content: "UploadedFile[bytes]", *, now: datetime) -> UploadPart:
    """Raises NotPending, and quotas.QuotaReached for bytes that were not announced and for which there is no room."""
    blob = blobs.write(retention.folder_of(retention.PARTS_FOLDER, now), content)
    with uploads.naming(blob):
        return _insert_part(upload, content.size or 0, blob, now)


def cancel(upload: MultipartUpload, *, now: datetime) -> None:
    """One that is cancelled already stays so. Raises NotPending."""
    if upload.status_at(now) == Status.PENDING:
        retention.abandon_upload(upload, Status.CANCELLED)
        upload.refresh_from_db()
    if (status := upload.status_at(now)) != Status.CANCELLED:
        raise NotPending(status)


def _insert_part(upload: MultipartUpload, size: int, blob: str, now: datetime) -> UploadPart:
    pending = MultipartUpload.objects.pending(now).filter(pk=upload.pk)
    taken = pending.update(received=F("received") + size)
    upload.refresh_from_db()
    if not taken:
        raise NotPending(upload.status_at(now))
    if upload.received > upload.bytes and not (upload.room and quotas.widen(upload.room, upload.received)):
        raise NotPending(Status.EXPIRED)
    return UploadPart.objects.create(upload=upload, bytes=size, blob=blob, created_at=now)
