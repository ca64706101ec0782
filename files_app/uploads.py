"""Bytes coming in: one pass from the socket to a temporary file, hashed on the way, then moved to be a blob."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.core.files.uploadhandler import TemporaryFileUploadHandler
from django.db import IntegrityError, transaction
from django.http.multipartparser import MultiPartParser, MultiPartParserError
from rest_framework.parsers import BaseParser, DataAndFiles

from billing_app import quotas
from billing_app.models import Account, Reservation
from config.api.body import Body
from config.api.errors import ApiError, BadRequest
from config.outages import DATABASE_AWAY
from files_app import blobs, retention
from files_app.models import StoredFile

MULTIPART_SLACK = 64 * 1024  # what a body may hold besides the file: boundaries, headers, fields
FILE_FIELD = "file"
FILENAME_LENGTH = 255  # characters; longer ones Django would cut


class IdempotencyConflict(Exception):
    """C5: the key was used before, for another upload."""


class UnderWay(Exception):
    """C5: the upload that the key was used for has not come to its end yet."""


class BlobUploadHandler(TemporaryFileUploadHandler):
    """Takes the one file that is wanted, as far as its size is allowed, and hashes it."""

    chunk_size = 256 * 1024  # measured: less costs calls, more leaves the processor's cache
    wanted_field = FILE_FIELD

    @property
    def most_bytes(self) -> int:
        return settings.MAX_FILE_BYTES

    def too_large(self) -> ApiError:
        return too_large(self.wanted_field)

    def new_file(self, field_name: str, *args: Any, **kwargs: Any) -> None:
        self._wanted = field_name == self.wanted_field
        if not self._wanted:
            return
        self.upload_interrupted()  # a second file of that name: the last one counts
        super().new_file(field_name, *args, **kwargs)
        self._digest = hashlib.sha256()
        self._size = 0

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        if not self._wanted:
            return
        self._size += len(raw_data)
        if self._size > self.most_bytes:
            raise self.too_large()
        self._digest.update(raw_data)
        self.file.write(raw_data)

    def file_complete(self, file_size: int) -> "UploadedFile[bytes] | None":
        if not self._wanted:
            return None
        file = super().file_complete(self._size)
        assert file is not None
        file.sha256 = self._digest.hexdigest()  # type: ignore[attr-defined]  # travels with the bytes it was made of
        return file


class UploadParser(BaseParser):
    """`multipart/form-data`. Unlike DRF's, it takes a body of unknown length, and no part that was cut off."""

    media_type = "multipart/form-data"
    handler: type[BlobUploadHandler] = BlobUploadHandler

    def parse(
        self, stream: Any, media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> "DataAndFiles[Any, Any]":
        body: Body = stream
        handler = self.handler()
        body.limit(handler.most_bytes + MULTIPART_SLACK, handler.too_large())
        try:
            return _read_form(body, media_type or "", handler)
        except (MultiPartParserError, ValueError, LookupError) as error:
            handler.upload_interrupted()
            raise BadRequest(f"The multipart body could not be read: {error}") from None
        except BaseException:
            handler.upload_interrupted()
            raise


def _read_form(body: Body, content_type: str, handler: BlobUploadHandler) -> "DataAndFiles[Any, Any]":
    # Django takes a body without a length for an empty one; it does nothing else with the number.
    meta = {"CONTENT_TYPE": content_type, "CONTENT_LENGTH": body.length or handler.most_bytes}
    stream = _Tail(body)
    parser = _StrictMultiPartParser(meta, cast(Any, stream), [handler], "utf-8")  # to read it is all it does
    parser.file_field = handler.wanted_field
    fields, files = parser.parse()
    if parser.last_boundary not in stream.tail:
        raise MultiPartParserError("the closing boundary is missing.")
    for name, values in fields.lists():
        _StrictMultiPartParser.refuse_broken(name, *values)
    return DataAndFiles(fields, files)


class _Tail:
    """Remembers a stream's end, for the closing boundary: Django's parser takes a body that lacks it for whole."""

    def __init__(self, body: Body) -> None:
        self._body = body
        self.tail = b""

    def read(self, size: int) -> bytes:
        data = self._body.read(size)
        self.tail = (self.tail + data[-1024:])[-1024:]
        return data


class _StrictMultiPartParser(MultiPartParser):
    file_field = FILE_FIELD

    @property
    def last_boundary(self) -> bytes:
        return b"--%s--" % self._boundary  # type: ignore[attr-defined]  # private, and not in the stubs

    def sanitize_file_name(self, file_name: str) -> str | None:
        self.refuse_broken(file_name)
        return safe_filename(file_name, self.file_field)

    @staticmethod
    def refuse_broken(*texts: str) -> None:
        """C6. Django has put U+FFFD for what is not UTF-8."""
        for text in texts:
            if "\0" in text or "\ufffd" in text:
                raise MultiPartParserError("a field or a filename is not valid UTF-8 text.")


def safe_filename(name: str, param: str) -> str | None:
    """Without folders and unprintable characters; None where nothing is left. Raises BadRequest for a long one."""
    if len(name) > FILENAME_LENGTH:
        raise BadRequest(f"The filename is longer than {FILENAME_LENGTH} characters.", param=param)
    return MultiPartParser.sanitize_file_name(cast(Any, None), name)  # of the parser it needs nothing


def too_large(param: str) -> ApiError:
    return BadRequest("File is too large.", param=param, code="invalid_value")  # F8


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that has come in whole. `content` lies in the temporary folder until it is stored."""

    content: "UploadedFile[bytes]"
    sha256: str
    filename: str
    purpose: StoredFile.Purpose = StoredFile.Purpose.BATCH
    expires_after: int | None = None  # seconds
    idempotency_key: str | None = None

    @property
    def size(self) -> int:
        return self.content.size or 0


def is_repeated(account: Account, idempotency_key: str | None) -> bool:
    """C5: an upload with this key is here already. To send it again takes no room."""
    return idempotency_key is not None and _with_key(account, idempotency_key) is not None


def is_under_way(account: Account, idempotency_key: str | None) -> bool:
    """C5: an upload with this key is coming in, or came in just now."""
    coming = Reservation.objects.filter(account=account, idempotency_key=idempotency_key or "")
    return idempotency_key is not None and (coming.exists() or is_repeated(account, idempotency_key))


def store_upload(account: Account, upload: Upload, room: Reservation | None, *, now: datetime) -> StoredFile:
    """F1, F9, C5. First the bytes, then the row that names them: nothing half-written is ever visible.

    Without `room` only what is here already can be stored. Raises quotas.QuotaReached, UnderWay.
    """
    if earlier := _earlier(account, upload):
        return earlier
    with _room(account, upload, room, now) as reservation:
        return _store(account, upload, reservation, now)


def _room(
    account: Account, upload: Upload, room: Reservation | None, now: datetime
) -> AbstractContextManager[Reservation]:
    # The file of this key may have been deleted since: then this upload needs room of its own after all.
    return nullcontext(room) if room else quotas.reserved(account, upload.size, now=now)


def write_blob(upload: Upload, *, now: datetime) -> str:
    return blobs.write(retention.folder_of(retention.FOLDER, now), upload.content)


@contextmanager
def naming(blob: str) -> Iterator[None]:
    """The transaction that makes the row of a blob that was just written. Where it fails the blob goes."""
    try:
        with transaction.atomic():
            yield
    except DATABASE_AWAY:
        raise  # the row may be there all the same: what becomes of the blob is for `sweep_orphans` to say
    except BaseException:
        retention.discard(blob)
        raise


def insert(account: Account, upload: Upload, blob: str, room: Reservation, *, now: datetime) -> StoredFile:
    """In the transaction that makes the file known. Raises quotas.QuotaReached."""
    # The row first, as a deletion does it: the other way round each may wait for what the other has locked.
    file = StoredFile.objects.create(
        account=account,
        purpose=upload.purpose,
        filename=upload.filename,
        bytes=upload.size,
        sha256=upload.sha256,
        blob=blob,
        idempotency_key=upload.idempotency_key,
        created_at=now,
        expires_at=now + timedelta(seconds=upload.expires_after) if upload.expires_after else None,
    )
    quotas.use(room, upload.size)
    return file


def _store(account: Account, upload: Upload, room: Reservation, now: datetime) -> StoredFile:
    blob = write_blob(upload, now=now)
    try:
        with naming(blob):
            return insert(account, upload, blob, room, now=now)
    except IntegrityError:
        if earlier := _earlier(account, upload):  # the same key, at the same time
            return earlier
        if upload.idempotency_key is None:
            raise
        raise UnderWay from None  # and the file of that key was deleted at once


def _earlier(account: Account, upload: Upload) -> StoredFile | None:
    if upload.idempotency_key is None:
        return None
    file = _with_key(account, upload.idempotency_key)
    if file is None:
        return None
    seconds = (file.expires_at - file.created_at).total_seconds() if file.expires_at else None
    if (file.sha256, file.filename, file.purpose, seconds) != (
        upload.sha256,
        upload.filename,
        upload.purpose,
        upload.expires_after,
    ):
        raise IdempotencyConflict
    return file


def _with_key(account: Account, idempotency_key: str) -> StoredFile | None:
    return StoredFile.objects.visible().filter(account=account, idempotency_key=idempotency_key).first()
