import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from django.conf import settings
from django.core.files.uploadedfile import UploadedFile

from config.api.errors import BadRequest, InvalidType, InvalidValue, MissingParameter
from config.api.fields import expires_after, expires_after_object, idempotency_key, required_string, unix
from files_app.assembly import Completion
from files_app.models import MultipartUpload, StoredFile, UploadPart
from files_app.multipart_uploads import PART_FIELD, Announcement
from files_app.uploads import FILE_FIELD, Upload, safe_filename, too_large

MD5 = re.compile(r"[0-9a-fA-F]{32}")

LIST_LIMIT = 10_000  # F5


def file_as_wire(file: StoredFile) -> dict[str, Any]:
    """F2"""
    return {
        "id": file.public_id,
        "object": "file",
        "bytes": file.bytes,
        "created_at": unix(file.created_at),
        "expires_at": unix(file.expires_at),
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
        "status_details": None,
    }


def upload_as_wire(upload: MultipartUpload, file: StoredFile | None = None) -> dict[str, Any]:
    """F10"""
    return {
        "id": upload.public_id,
        "object": "upload",
        "bytes": upload.bytes,
        "created_at": unix(upload.created_at),
        "expires_at": unix(upload.expires_at),
        "filename": upload.filename,
        "purpose": upload.purpose,
        "status": upload.status,
        "file": file_as_wire(file) if file else None,
    }


def part_as_wire(part: UploadPart) -> dict[str, Any]:
    return {
        "id": part.public_id,
        "object": "upload.part",
        "created_at": unix(part.created_at),
        "upload_id": part.upload.public_id,
    }


def read_upload(data: Mapping[str, Any], meta: Mapping[str, Any]) -> Upload:
    """F1"""
    _check_purpose(data)
    content = read_file(data, FILE_FIELD)
    filename = content.name or ""
    _check_extension(filename, FILE_FIELD)
    return Upload(
        content=content,
        sha256=content.sha256,  # type: ignore[attr-defined]  # set by BlobUploadHandler
        filename=filename,
        expires_after=expires_after(
            data.get("expires_after[anchor]"), data.get("expires_after[seconds]"), "expires_after"
        ),
        idempotency_key=idempotency_key(meta),
    )


def read_file(data: Mapping[str, Any], field: str) -> "UploadedFile[bytes]":
    content = data.get(field)
    if not isinstance(content, UploadedFile):
        raise MissingParameter(field)
    return content


def read_announcement(data: Mapping[str, Any]) -> Announcement:
    """F10, with the purpose and the filename of F1."""
    _check_purpose(data)
    given = required_string(data, "filename")
    filename = safe_filename(given, "filename")
    if filename is None:
        raise InvalidValue("filename", given, "names of files")
    _check_extension(filename, "filename")
    required_string(data, "mime_type")  # which says nothing that the extension does not
    return Announcement(
        filename=filename,
        size=_read_size(data),
        expires_after=expires_after_object(data.get("expires_after"), "expires_after"),
    )


def read_part(data: Mapping[str, Any]) -> "UploadedFile[bytes]":
    content = read_file(data, PART_FIELD)
    if not content.size:
        raise BadRequest("The part is empty.", param=PART_FIELD, code="invalid_value")
    return content


def read_completion(data: Mapping[str, Any]) -> Completion:
    part_ids = data.get("part_ids")
    if part_ids is None:
        raise MissingParameter("part_ids")
    if not isinstance(part_ids, list):
        raise InvalidType("part_ids", part_ids, list)
    for number, part_id in enumerate(part_ids):
        if not isinstance(part_id, str):
            raise InvalidType(f"part_ids[{number}]", part_id, str)
    return Completion(part_ids, _read_md5(data.get("md5")))


def _check_purpose(data: Mapping[str, Any]) -> None:
    purpose = required_string(data, "purpose")
    if purpose != StoredFile.Purpose.BATCH:
        raise InvalidValue("purpose", purpose, f"'{StoredFile.Purpose.BATCH}'")


def _check_extension(filename: str, param: str) -> None:
    if PurePath(filename).suffix.lower() not in ("", ".jsonl"):
        raise BadRequest("Invalid file format for Batch API. Must be .jsonl", param=param, code="invalid_file_format")


def _read_size(data: Mapping[str, Any]) -> int:
    size = data.get("bytes")
    if size is None:
        raise MissingParameter("bytes")
    if isinstance(size, bool) or not isinstance(size, int):
        raise InvalidType("bytes", size, int)
    if size > settings.MAX_FILE_BYTES:
        raise too_large("bytes")
    if size < 0:
        raise InvalidValue("bytes", size, f"integers from 0 to {settings.MAX_FILE_BYTES}")
    return size


def _read_md5(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise InvalidType("md5", value, str)
    if not MD5.fullmatch(value):
        raise InvalidValue("md5", value, "checksums of 32 hexadecimal digits")
    return value.lower()
