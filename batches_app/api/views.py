from datetime import timedelta

from django.conf import settings
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from batches_app import admission, history, lifecycle
from batches_app.api import model_schema, schema
from batches_app.api.filters import LIST_DEFAULT, LIST_LIMIT, filter_batches
from batches_app.api.serializers import (
    batch_as_wire,
    estimate_as_wire,
    model_as_wire,
    read_input,
    read_new_batch,
)
from batches_app.estimates import estimate
from batches_app.models import Batch, ServedModel
from billing_app.authentication import account_of, key_of
from config.api.errors import Conflict, NotFound, OutOfFunds, QuotaExceeded
from config.api.pagination import paginate, read_page
from config.api.scopes import Scope
from config.api.views import ApiView, fields_of
from files_app.models import StoredFile

# What the wire has no use for. Clients poll a batch, and each column costs Django microseconds.
UNSEEN = {"account", "api_key", "idempotency_key", "request_fingerprint", "name", "output_expires_after", "source"}
UNSEEN |= {"sealed_at", "model", "enqueued_tokens", "flagged", "stage_token", "stage_expires_at"}
SEEN = ", ".join(str(field.column) for field in Batch._meta.concrete_fields if field.name not in UNSEEN)
# Raw, because to build this query anew takes Django longer than all else does.
BATCH_BY_ID = f"SELECT {SEEN} FROM {Batch._meta.db_table} WHERE public_id = %s AND account_id = %s"  # nosec  # our own columns


class Models(ApiView):
    scopes = {"get": Scope.MODELS}

    @model_schema.list_models
    def get(self, request: Request) -> Response:
        models = ServedModel.objects.filter(is_enabled=True)
        return Response({"object": "list", "data": [model_as_wire(model) for model in models]})


class Model(ApiView):
    scopes = {"get": Scope.MODELS}

    @model_schema.retrieve_model
    def get(self, request: Request, model_id: str) -> Response:
        model = ServedModel.objects.filter(is_enabled=True, name=model_id).first()
        if model is None:
            raise NotFound(f"The model '{model_id}' does not exist", param="model", code="model_not_found")
        return Response(model_as_wire(model))


class Batches(ApiView):
    scopes = {"get": Scope.BATCHES_LIST, "post": Scope.BATCHES_CREATE}

    @schema.list_batches
    def get(self, request: Request) -> Response:
        page = read_page(request.query_params, default=LIST_DEFAULT, maximum=LIST_LIMIT)
        anchors = Batch.objects.filter(account=account_of(request))
        rows = filter_batches(anchors, request.query_params)
        return Response(paginate(rows, page, batch_as_wire, anchors=anchors))

    @schema.create_batch
    def post(self, request: Request) -> Response:
        new = read_new_batch(fields_of(request), request.META)
        try:
            batch = lifecycle.create(account_of(request), key_of(request), new, now=timezone.now())
        except lifecycle.IdempotencyConflict:
            raise Conflict(
                "Idempotency conflict: this idempotency key was used before with another request.",
                param="idempotency_key",
            ) from None
        except admission.TooManyBatches as error:
            raise QuotaExceeded(str(error)) from None
        except admission.OutOfFunds as error:
            raise OutOfFunds(str(error)) from None
        return Response(batch_as_wire(batch))


class BatchEstimate(ApiView):
    scopes = {"post": Scope.BATCHES_ESTIMATE}

    @schema.estimate_batch
    def post(self, request: Request) -> Response:
        file_id, endpoint = read_input(fields_of(request))
        account = account_of(request)
        file = StoredFile.objects.visible().filter(account=account, public_id=file_id, purpose="batch").first()
        if file is None:
            raise NotFound(f"No such File object: {file_id}", param="input_file_id")
        found = estimate(account, key_of(request), file, endpoint, now=timezone.now())
        return Response(estimate_as_wire(found, file_id, endpoint))


class BatchDetail(ApiView):
    scopes = {"get": Scope.BATCHES_RETRIEVE}

    @schema.retrieve_batch
    def get(self, request: Request, batch_id: str) -> Response:
        return Response(batch_as_wire(_batch(request, batch_id)))


class CancelBatch(ApiView):
    scopes = {"post": Scope.BATCHES_CANCEL}

    @schema.cancel_batch
    def post(self, request: Request, batch_id: str) -> Response:
        _ = request.data  # its content does not matter, but broken is broken (C6)
        batch = _batch(request, batch_id)
        try:
            cancelled = lifecycle.cancel(batch, history.by_tenant(key_of(request)), now=timezone.now())
            return Response(batch_as_wire(cancelled))
        except lifecycle.NotCancellable as error:
            raise Conflict(f"Cannot cancel a batch with status '{error}'.") from None


def _batch(request: Request, batch_id: str) -> Batch:
    oldest = timezone.now() - timedelta(days=settings.BATCH_VISIBLE_DAYS)  # B6
    for batch in Batch.objects.raw(BATCH_BY_ID, [batch_id, account_of(request).pk]):
        if batch.created_at >= oldest:
            return batch
    raise NotFound(f"No such Batch object: {batch_id}", param="id")  # C7: nor does another account's exist
