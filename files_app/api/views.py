from contextlib import AbstractContextManager, nullcontext
from datetime import datetime

from django.conf import settings
from django.http import HttpResponseBase
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from billing_app import quotas
from billing_app.authentication import account_of
from billing_app.models import Account, Reservation
from config.api.body import declared_length
from config.api.errors import BadRequest, Conflict, NotFound, QuotaExceeded, Unavailable
from config.api.fields import idempotency_key
from config.api.pagination import paginate, read_page
from config.api.scopes import Scope
from config.api.views import ApiView, fields_of
from files_app import retention
from files_app.api import schema
from files_app.api.downloads import download
from files_app.api.serializers import LIST_LIMIT, file_as_wire, read_upload
from files_app.models import StoredFile, StoredFileQuerySet
from files_app.uploads import (
    MULTIPART_SLACK,
    IdempotencyConflict,
    UnderWay,
    UploadParser,
    is_repeated,
    is_under_way,
    store_upload,
)


class Files(ApiView):
    scopes = {"get": Scope.FILES_LIST, "post": Scope.FILES_CREATE}
    parser_classes = [UploadParser]

    @schema.list_files
    def get(self, request: Request) -> Response:
        page = read_page(request.query_params, default=LIST_LIMIT, maximum=LIST_LIMIT)
        anchors = _files(request)
        purpose = request.query_params.get("purpose")
        rows = anchors.filter(purpose=purpose) if purpose else anchors
        return Response(paginate(rows, page, file_as_wire, anchors=anchors))

    @schema.create_file
    def post(self, request: Request) -> Response:
        account, key, now = account_of(request), idempotency_key(request.META), timezone.now()
        try:
            with _room(request, account, key, now) as room:
                upload = read_upload(fields_of(request), request.META)
                file = store_upload(account, upload, room, now=now)
        except quotas.QuotaReached as error:
            if is_under_way(account, key):
                raise _under_way() from None
            raise QuotaExceeded(str(error)) from None
        except UnderWay:
            raise _under_way() from None
        except IdempotencyConflict:
            raise Conflict(
                "Idempotency conflict: this Idempotency-Key was used before with another upload.",
                param="idempotency_key",
            ) from None
        return Response(file_as_wire(file))


class File(ApiView):
    scopes = {"get": Scope.FILES_RETRIEVE, "delete": Scope.FILES_DELETE}

    @schema.retrieve_file
    def get(self, request: Request, file_id: str) -> Response:
        return Response(file_as_wire(_file(request, file_id)))

    @schema.delete_file
    def delete(self, request: Request, file_id: str) -> Response:
        if not retention.delete_file(_file(request, file_id), now=timezone.now()):
            raise _no_such(file_id)
        return Response({"id": file_id, "object": "file", "deleted": True})


class FileContent(ApiView):
    scopes = {"get": Scope.FILES_CONTENT}

    @schema.file_content
    def get(self, request: Request, file_id: str) -> HttpResponseBase:
        file = _file(request, file_id)
        if file.purpose != StoredFile.Purpose.BATCH_OUTPUT and not settings.ALLOW_INPUT_DOWNLOAD:
            raise BadRequest(f"Not allowed to download files of purpose: {file.purpose}")
        return download(file, request)


def _room(
    request: Request, account: Account, key: str | None, now: datetime
) -> AbstractContextManager[Reservation | None]:
    """F9: reserved before the body is read, by what is certain then: the file is not smaller than that."""
    if is_repeated(account, key):
        return nullcontext()
    announced = declared_length(request.META) or 0
    least = min(max(0, announced - MULTIPART_SLACK), settings.MAX_FILE_BYTES)
    return quotas.reserved(account, least, now=now, idempotency_key=key or "")


def _under_way() -> Unavailable:
    """503, so that SDKs try again by themselves (C4), and then get the file."""
    return Unavailable("An upload with this Idempotency-Key is under way. Please try again shortly.")


def _files(request: Request) -> StoredFileQuerySet:
    return StoredFile.objects.visible().filter(account=account_of(request))


def _file(request: Request, file_id: str) -> StoredFile:
    file = _files(request).filter(public_id=file_id).first()
    if file is None:
        raise _no_such(file_id)  # C7: another account's file does not exist either
    return file


def _no_such(file_id: str) -> NotFound:
    return NotFound(f"No such File object: {file_id}", param="id")
