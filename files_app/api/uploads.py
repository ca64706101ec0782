"""F10: what the SDK's `client.uploads` calls."""

from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from billing_app import quotas
from billing_app.authentication import account_of
from config.api.errors import BadRequest, NotFound, QuotaExceeded, Unavailable
from config.api.scopes import Scope
from config.api.views import ApiView, fields_of
from files_app import assembly, multipart_uploads
from files_app.api import upload_schema
from files_app.api.serializers import part_as_wire, read_announcement, read_completion, read_part, upload_as_wire
from files_app.models import MultipartUpload
from files_app.multipart_uploads import NotPending, PartParser


class Uploads(ApiView):
    scopes = {"post": Scope.UPLOADS_CREATE}

    @upload_schema.create_upload
    def post(self, request: Request) -> Response:
        announced = read_announcement(fields_of(request))
        try:
            upload = multipart_uploads.create(account_of(request), announced, now=timezone.now())
        except quotas.QuotaReached as error:
            raise QuotaExceeded(str(error)) from None
        return Response(upload_as_wire(upload))


class UploadParts(ApiView):
    scopes = {"post": Scope.UPLOADS_PARTS}
    parser_classes = [PartParser]

    @upload_schema.add_part
    def post(self, request: Request, upload_id: str) -> Response:
        upload = _upload(request, upload_id)
        try:
            multipart_uploads.check_pending(upload, now=timezone.now())  # before its bytes are taken
            content = read_part(fields_of(request))
            part = multipart_uploads.add_part(upload, content, now=timezone.now())
        except NotPending as error:
            raise _not_pending("add a part to", error) from None
        except quotas.QuotaReached as error:
            raise QuotaExceeded(str(error)) from None
        return Response(part_as_wire(part))


class CompleteUpload(ApiView):
    scopes = {"post": Scope.UPLOADS_COMPLETE}

    @upload_schema.complete_upload
    def post(self, request: Request, upload_id: str) -> Response:
        wanted = read_completion(fields_of(request))
        upload = _upload(request, upload_id)
        try:
            assembly.complete(upload, wanted, now=timezone.now())
        except NotPending as error:
            raise _not_pending("complete", error) from None
        except assembly.UnfitParts as error:
            raise BadRequest(str(error), param="part_ids", code="invalid_value") from None
        except assembly.WrongChecksum as error:
            message = f"The md5 of the parts is {error}, not {wanted.md5}."
            raise BadRequest(message, param="md5", code="invalid_value") from None
        except assembly.UnderWay as error:
            raise Unavailable(
                "This upload is being completed. Please try again shortly.", headers={"Retry-After": str(error)}
            ) from None
        except quotas.QuotaReached as error:
            raise QuotaExceeded(str(error)) from None
        return Response(upload_as_wire(upload, upload.file))


class CancelUpload(ApiView):
    scopes = {"post": Scope.UPLOADS_CANCEL}

    @upload_schema.cancel_upload
    def post(self, request: Request, upload_id: str) -> Response:
        _ = request.data  # its content does not matter, but broken is broken (C6)
        upload = _upload(request, upload_id)
        try:
            multipart_uploads.cancel(upload, now=timezone.now())
        except NotPending as error:
            raise _not_pending("cancel", error) from None
        return Response(upload_as_wire(upload))


def _upload(request: Request, upload_id: str) -> MultipartUpload:
    upload = MultipartUpload.objects.filter(account=account_of(request), public_id=upload_id).first()
    if upload is None:
        raise NotFound(f"No such Upload object: {upload_id}", param="id")  # C7: nor does another account's exist
    return upload


def _not_pending(what: str, error: NotPending) -> BadRequest:
    return BadRequest(f"Cannot {what} an upload with status '{error}'.")
