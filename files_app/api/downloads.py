"""F7: a file's bytes, by the server's sendfile where the blob is a file on this machine."""

from http import HTTPStatus
from typing import Any, BinaryIO

from django.http import FileResponse
from rest_framework.request import Request

from files_app import blobs
from files_app.api.ranges import requested_range
from files_app.models import StoredFile


class Span:
    """The bytes of a file within `span`, at whose beginning it stands, as WSGI servers expect that send by its
    descriptor; those that read get no more than them."""

    def __init__(self, file: BinaryIO, span: range) -> None:
        self._file = file
        self._left = len(span)
        self.fileno = file.fileno
        self.close: Any = file.close

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(data)
        return data


class Download(FileResponse):
    block_size = 256 * 1024


def download(file: StoredFile, request: Request) -> Download:
    header = request.META.get("HTTP_RANGE", "")
    if request.META.get("HTTP_IF_RANGE", _etag(file)) != _etag(file):
        header = ""
    part = requested_range(header, file.bytes)
    response = _sent(file, range(file.bytes) if part is None else part, file.filename)
    if part is not None:
        response.status_code = HTTPStatus.PARTIAL_CONTENT
        response["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{file.bytes}"
    return response


def whole(file: StoredFile, filename: str) -> Download:
    """Under another name: a tenant's own choice is not to end up on somebody else's disk."""
    return _sent(file, range(file.bytes), filename)


def attachment(blob: str, span: range, filename: str) -> Download:
    return Download(
        Span(blobs.stream(blob, span), span),
        as_attachment=True,
        filename=filename,
        content_type="application/octet-stream",
        headers={"Content-Length": str(len(span))},
    )


def _sent(file: StoredFile, span: range, filename: str) -> Download:
    response = attachment(file.blob, span, filename)
    response["Accept-Ranges"], response["ETag"] = "bytes", _etag(file)
    return response


def _etag(file: StoredFile) -> str:
    return f'"{file.sha256}"'
