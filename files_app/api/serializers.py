from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from django.core.files.uploadedfile import UploadedFile

from config.api.errors import BadRequest, InvalidValue, MissingParameter
from config.api.fields import expires_after, idempotency_key, required_string, unix
from files_app.models import StoredFile
from files_app.uploads import FILE_FIELD, Upload


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


def read_upload(data: Mapping[str, Any], meta: Mapping[str, Any]) -> Upload:
    """F1"""
    purpose = required_string(data, "purpose")
    if purpose != StoredFile.Purpose.BATCH:
        raise InvalidValue("purpose", purpose, f"'{StoredFile.Purpose.BATCH}'")
    content = data.get(FILE_FIELD)
    if not isinstance(content, UploadedFile):
        raise MissingParameter(FILE_FIELD)
    filename = content.name or ""
    if PurePath(filename).suffix.lower() not in ("", ".jsonl"):
        raise BadRequest(
            "Invalid file format for Batch API. Must be .jsonl", param=FILE_FIELD, code="invalid_file_format"
        )
    return Upload(
        content=content,
        sha256=content.sha256,  # type: ignore[attr-defined]  # set by BlobUploadHandler
        filename=filename,
        expires_after=expires_after(
            data.get("expires_after[anchor]"), data.get("expires_after[seconds]"), "expires_after"
        ),
        idempotency_key=idempotency_key(meta),
    )
