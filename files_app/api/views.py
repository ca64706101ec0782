from django.conf import settings
from django.http import HttpResponseBase
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from billing_app.authentication import account_of
from config.api.errors import BadRequest, Conflict, NotFound
from config.api.pagination import paginate, read_page
from config.api.views import ApiView, fields_of
from files_app import retention
from files_app.api.downloads import download
from files_app.api.serializers import file_as_wire, read_upload
from files_app.models import StoredFile, StoredFileQuerySet
from files_app.uploads import IdempotencyConflict, UploadParser, store_upload

LIST_LIMIT = 10_000  # F5


class Files(ApiView):
    parser_classes = [UploadParser]

    def get(self, request: Request) -> Response:
        page = read_page(request.query_params, default=LIST_LIMIT, maximum=LIST_LIMIT)
        anchors = _files(request)
        purpose = request.query_params.get("purpose")
        rows = anchors.filter(purpose=purpose) if purpose else anchors
        return Response(paginate(rows, page, file_as_wire, anchors=anchors))

    def post(self, request: Request) -> Response:
        try:
            upload = read_upload(fields_of(request), request.META)
            file = store_upload(account_of(request), upload, now=timezone.now())
        except IdempotencyConflict:
            raise Conflict(
                "Idempotency conflict: this Idempotency-Key was used before with another upload.",
                param="idempotency_key",
            ) from None
        return Response(file_as_wire(file))


class File(ApiView):
    def get(self, request: Request, file_id: str) -> Response:
        return Response(file_as_wire(_file(request, file_id)))

    def delete(self, request: Request, file_id: str) -> Response:
        if not retention.delete_file(_file(request, file_id), now=timezone.now()):
            raise _no_such(file_id)
        return Response({"id": file_id, "object": "file", "deleted": True})


class FileContent(ApiView):
    def get(self, request: Request, file_id: str) -> HttpResponseBase:
        file = _file(request, file_id)
        if file.purpose != StoredFile.Purpose.BATCH_OUTPUT and not settings.ALLOW_INPUT_DOWNLOAD:
            raise BadRequest(f"Not allowed to download files of purpose: {file.purpose}")
        return download(file, request)


def _files(request: Request) -> StoredFileQuerySet:
    return StoredFile.objects.visible().filter(account=account_of(request))


def _file(request: Request, file_id: str) -> StoredFile:
    file = _files(request).filter(public_id=file_id).first()
    if file is None:
        raise _no_such(file_id)  # C7: another account's file does not exist either
    return file


def _no_such(file_id: str) -> NotFound:
    return NotFound(f"No such File object: {file_id}", param="id")
