"""The Batches API, described."""

from typing import Any

from django.conf import settings
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from batches_app.api.filters import INPUT_FILES, LIST_DEFAULT, LIST_LIMIT
from batches_app.api.metadata import KEY_LENGTH, NAMED_LENGTHS, PAIRS, VALUE_LENGTH
from batches_app.api.serializers import ENDPOINTS, ID_LENGTH
from batches_app.api.windows import SUPPORTED
from batches_app.request_lines import MOST_VALUES
from batches_app.states import Status
from config.api import schema
from config.api.fields import IDEMPOTENCY_KEY_LENGTH
from config.api.schema import ExpiresAfter, FixedField, Json, Moment, operation

TAG = "Batches"
WINDOW = r"^((2[4-9]|[3-9][0-9]|[12][0-9]{2}|3[0-2][0-9]|33[0-6])h|([1-9]|1[0-4])d)$"
_ID = schema.path_id("batch_id", "batch_3f9a1c5e7b2d4068a1c3e5f70b2d4f68", "Of the batch.")

_TEXT: Json = {"type": "string", "maxLength": VALUE_LENGTH}
_METADATA: Json = {
    "type": ["object", "null"],
    "maxProperties": PAIRS,
    "propertyNames": {"maxLength": KEY_LENGTH},
    "properties": {name: {"type": "string", "maxLength": most} for name, most in NAMED_LENGTHS.items()},
    "additionalProperties": _TEXT,
}


@extend_schema_field(_METADATA)
class Metadata(serializers.JSONField):
    pass


class Violation(serializers.Serializer[Any]):
    code = serializers.CharField(help_text="Such as `duplicate_custom_id`.")
    message = serializers.CharField()
    param = serializers.CharField(allow_null=True)
    line = serializers.IntegerField(allow_null=True, help_text="Of the input file, from 1; null for the whole of it.")


class Violations(serializers.Serializer[Any]):
    object = FixedField("list")
    data = Violation(many=True)  # type: ignore[assignment]  # DRF takes members out of the class


class RequestCounts(serializers.Serializer[Any]):
    total = serializers.IntegerField(help_text="Known from `in_progress` on.")
    completed = serializers.IntegerField()
    failed = serializers.IntegerField(help_text="Without those that were never run.")


class CachedTokens(serializers.Serializer[Any]):
    cached_tokens = serializers.IntegerField()


class ReasoningTokens(serializers.Serializer[Any]):
    reasoning_tokens = serializers.IntegerField()


class BatchUsage(serializers.Serializer[Any]):
    input_tokens = serializers.IntegerField()
    input_tokens_details = CachedTokens()
    output_tokens = serializers.IntegerField()
    output_tokens_details = ReasoningTokens()
    total_tokens = serializers.IntegerField()


class Cost(serializers.Serializer[Any]):
    amount = serializers.RegexField(r"^-?[0-9]+(\.[0-9]+)?$", help_text="Exact, as text.")
    currency = serializers.RegexField(r"^[A-Z]{3}$")


def _reached(state: str) -> Moment:
    return Moment(allow_null=True, help_text=f"When it became {state}.")


class Batch(serializers.Serializer[Any]):
    id = serializers.RegexField(r"^batch_[0-9a-f]{32}$")
    object = FixedField("batch")
    endpoint = serializers.ChoiceField(ENDPOINTS)
    model = serializers.CharField(allow_null=True, help_text="Of all its requests; known after validation.")
    errors = Violations(allow_null=True, help_text="What is wrong with the input file.")  # type: ignore[assignment]  # as above
    input_file_id = serializers.CharField()
    completion_window = serializers.CharField()
    status = serializers.ChoiceField([str(status) for status in Status])
    output_file_id = serializers.CharField(allow_null=True, help_text="The successes, in input order.")
    error_file_id = serializers.CharField(allow_null=True, help_text="Failures, and what was never run.")
    created_at = Moment()
    in_progress_at = _reached("`in_progress`")
    expires_at = Moment(help_text="The end of its completion window.")
    finalizing_at = _reached("`finalizing`")
    completed_at = _reached("`completed`")
    failed_at = _reached("`failed`")
    expired_at = _reached("`expired`")
    cancelling_at = _reached("`cancelling`")
    cancelled_at = _reached("`cancelled`")
    request_counts = RequestCounts()
    usage = BatchUsage(help_text="Of its successes so far.")
    metadata = Metadata()
    cost = Cost(help_text="What has been charged for it so far.")


class NewBatch(serializers.Serializer[Any]):
    input_file_id = serializers.CharField(max_length=ID_LENGTH, min_length=1, help_text="Of an uploaded file.")
    endpoint = serializers.ChoiceField(ENDPOINTS, help_text="That every line of the file has as its `url`.")
    completion_window = serializers.RegexField(WINDOW, help_text=f"{SUPPORTED}.")
    metadata = Metadata(required=False, help_text=f"Up to {PAIRS} pairs. `ds_name` can be searched for.")
    output_expires_after = ExpiresAfter(
        required=False, allow_null=True, help_text="When the result files are deleted, from their creation on."
    )
    idempotency_key = serializers.CharField(
        required=False,
        allow_null=True,
        max_length=IDEMPOTENCY_KEY_LENGTH,
        help_text="In place of the header `Idempotency-Key`.",
    )


class NewEstimate(serializers.Serializer[Any]):
    input_file_id = serializers.CharField(max_length=ID_LENGTH, min_length=1)
    endpoint = serializers.ChoiceField(ENDPOINTS)


class EstimatedCost(serializers.Serializer[Any]):
    input_tokens = serializers.IntegerField(help_text="Counted from bytes.")
    output_tokens = serializers.IntegerField()
    cost = Cost()


class Objection(serializers.Serializer[Any]):
    code = serializers.CharField()
    message = serializers.CharField()


class BatchEstimate(serializers.Serializer[Any]):
    object = FixedField("batch.estimate")
    input_file_id = serializers.CharField()
    endpoint = serializers.ChoiceField(ENDPOINTS)
    model = serializers.CharField(allow_null=True)
    requests = serializers.IntegerField()
    likely = EstimatedCost(allow_null=True, help_text="Null where the file has errors.")
    most = EstimatedCost(allow_null=True)
    output_tokens_from = serializers.ChoiceField(
        ["history", "max_tokens"], help_text="`history`: the account's own answers of the last 90 days."
    )
    errors = Violations(allow_null=True, help_text="What is wrong with the file.")  # type: ignore[assignment]  # as above
    would_run = serializers.BooleanField()
    obstacles = Objection(many=True, help_text="Why a batch would be refused or fail at this moment.")


_MOMENT: Json = {"type": "string", "pattern": "^([0-9]{14})?$", "example": "20261101000000"}
_NOT_ADMITTED: dict[int, str] = {
    403: "The account is disabled, or has as many active batches as it may.",
    429: "Too many requests in this minute (`requests`), or credit or budget is used up (`insufficient_quota`).",
}

list_batches = operation(
    "listBatches",
    "List batches",
    tag=TAG,
    description="The account's batches, newest first.",
    parameters=[
        *schema.paging(default=LIST_DEFAULT, maximum=LIST_LIMIT),
        schema.by_comma("status", schema.list_of({"type": "string", "enum": [*map(str, Status)]}), "By comma."),
        schema.query("ds_name", {"type": "string"}, "Part of the metadata's `ds_name`, in any case."),
        schema.by_comma("input_file_ids", schema.list_of({"type": "string"}, maxItems=INPUT_FILES), "By comma."),
        schema.query("create_after", _MOMENT, "`yyyyMMddHHmmss` in the server's time zone."),
        schema.query("create_before", _MOMENT, "`yyyyMMddHHmmss` in the server's time zone."),
    ],
    answers={200: schema.page_of(Batch)},
    curl="""
curl -H "Authorization: Bearer $API_KEY" \\
     "$BATCHDESK/v1/batches?status=completed,failed&limit=10"
""",
    python="""
for batch in client.batches.list(limit=10, extra_query={"status": "completed,failed"}):
    print(batch.id, batch.status, batch.request_counts)
""",
)

create_batch = operation(
    "createBatch",
    "Create a batch",
    tag=TAG,
    description=f"""
The batch is `validating` at first: what is wrong with its file, or that there is none, is in its `errors` once it is
`failed`. Nothing of a file with a violation is run or charged. A file has up to {settings.MAX_REQUESTS:,} requests, all
for the same model; a line up to {settings.MAX_LINE_BYTES:,} bytes, and in a member that is looked at (`input`,
`prompt` …) up to {MOST_VALUES:,} arrays, objects and texts.
""",
    parameters=[schema.IDEMPOTENCY_KEY],
    body=NewBatch,
    answers={200: Batch},
    errors={
        **_NOT_ADMITTED,
        409: "This idempotency key was used for another batch.",
        415: schema.UNSUPPORTED,
    },
    curl="""
curl -H "Authorization: Bearer $API_KEY" \\
     -H "Content-Type: application/json" \\
     -d '{"input_file_id": "file-batch-5f0c7d1e9a3b4c2d8e6f7a1b",
          "endpoint": "/v1/chat/ds-test", "completion_window": "24h",
          "metadata": {"ds_name": "nightly"}}' \\
     $BATCHDESK/v1/batches
""",
    python="""
batch = client.batches.create(
    input_file_id="file-batch-5f0c7d1e9a3b4c2d8e6f7a1b",
    endpoint="/v1/chat/ds-test",
    completion_window="24h",
    metadata={"ds_name": "nightly"},
)
print(batch.id, batch.status)
""",
)

estimate_batch = operation(
    "estimateBatch",
    "Estimate a batch",
    tag=TAG,
    description="What a batch of this file is likely to cost, what at most, and what stands in its way. It makes none.",
    body=NewEstimate,
    answers={200: BatchEstimate},
    errors={404: schema.NOT_FOUND, 415: schema.UNSUPPORTED},
    curl="""
curl -H "Authorization: Bearer $API_KEY" \\
     -H "Content-Type: application/json" \\
     -d '{"input_file_id": "file-batch-5f0c7d1e9a3b4c2d8e6f7a1b",
          "endpoint": "/v1/chat/ds-test"}' \\
     $BATCHDESK/v1/batches/estimate
""",
    python="""
estimate = client.post(
    "/batches/estimate",
    body={
        "input_file_id": "file-batch-5f0c7d1e9a3b4c2d8e6f7a1b",
        "endpoint": "/v1/chat/ds-test",
    },
    cast_to=object,
)
print(estimate["would_run"], estimate["most"])
""",
)

retrieve_batch = operation(
    "retrieveBatch",
    "Retrieve a batch",
    tag=TAG,
    description="Of those created in the last 30 days.",
    parameters=[_ID],
    answers={200: Batch},
    errors={404: schema.NOT_FOUND},
    curl="""
curl -H "Authorization: Bearer $API_KEY" \\
     $BATCHDESK/v1/batches/batch_3f9a1c5e7b2d4068a1c3e5f70b2d4f68
""",
    python="""
batch = client.batches.retrieve("batch_3f9a1c5e7b2d4068a1c3e5f70b2d4f68")
print(batch.status, batch.request_counts)
""",
)

cancel_batch = operation(
    "cancelBatch",
    "Cancel a batch",
    tag=TAG,
    description="""
No new request is sent from now on; those in flight get a short grace. What has succeeded by then is in the output
file, and is all that is charged. The body is empty.
""",
    parameters=[_ID],
    answers={200: Batch},
    errors={404: schema.NOT_FOUND, 409: "The batch has ended.", 415: schema.UNSUPPORTED},
    curl="""
curl -X POST -H "Authorization: Bearer $API_KEY" \\
     $BATCHDESK/v1/batches/batch_3f9a1c5e7b2d4068a1c3e5f70b2d4f68/cancel
""",
    python='client.batches.cancel("batch_3f9a1c5e7b2d4068a1c3e5f70b2d4f68")',
)
