"""The Uploads API, described."""

from typing import Any

from django.conf import settings
from rest_framework import serializers

from config.api import schema
from config.api.schema import ExpiresAfter, FixedField, Json, Moment, operation
from files_app.api.schema import File
from files_app.models import MultipartUpload
from files_app.uploads import FILENAME_LENGTH

TAG = "Uploads"
_ID = schema.path_id("upload_id", "upload_6a1f0c9d3b7e4d2a8c5f1e0b", "Of the upload.")
_FULL = "The account is disabled, or keeps as many files or bytes as it may: deleting some makes room."


class Upload(serializers.Serializer[Any]):
    id = serializers.CharField(help_text="`upload_…`")
    object = FixedField("upload")
    bytes = serializers.IntegerField(min_value=0, help_text="As announced.")
    created_at = Moment()
    expires_at = Moment(help_text="When it expires unless it is completed.")
    filename = serializers.CharField()
    purpose = serializers.ChoiceField(["batch"])
    status = serializers.ChoiceField(MultipartUpload.Status.values)
    file = File(allow_null=True, help_text="Once it is completed.")


class UploadPart(serializers.Serializer[Any]):
    id = serializers.CharField(help_text="`part_…`")
    object = FixedField("upload.part")
    created_at = Moment()
    upload_id = serializers.CharField()


class NewUpload(serializers.Serializer[Any]):
    filename = serializers.CharField(
        max_length=FILENAME_LENGTH, help_text="Ends in `.jsonl` or has no extension; folders are left out."
    )
    purpose = serializers.ChoiceField(["batch"])
    bytes = serializers.IntegerField(
        min_value=0, max_value=settings.MAX_FILE_BYTES, help_text="Of all parts together: so much room is reserved."
    )
    mime_type = serializers.CharField(help_text="Such as `application/jsonl`.")
    expires_after = ExpiresAfter(
        required=False, allow_null=True, help_text="When the file is deleted, from its creation on."
    )


class Completion(serializers.Serializer[Any]):
    part_ids = serializers.ListField(child=serializers.CharField(), help_text="In the order of the file.")
    md5 = serializers.RegexField(
        r"^[0-9a-fA-F]{32}$",
        required=False,
        allow_null=True,
        help_text="Of the whole: a check on the way of the bytes.",
    )


_PART: Json = {
    "type": "object",
    "required": ["data"],
    "properties": {
        "data": {
            "contentMediaType": "application/octet-stream",
            "description": f"Up to {settings.MAX_PART_BYTES:,} bytes, and not none.",
        }
    },
}

create_upload = operation(
    "createUpload",
    "Begin an upload in parts",
    tag=TAG,
    description="""
For a file that is sent in parts, at the same time or one after the other, and gone on with where it broke off. There is
an hour for it; then what has come is removed.
""",
    body=NewUpload,
    answers={200: Upload},
    errors={403: _FULL, 415: schema.UNSUPPORTED},
    curl="""
curl -H "Authorization: Bearer $API_KEY" -H "Content-Type: application/json" $BATCHDESK/v1/uploads \\
     -d '{"filename": "requests.jsonl", "purpose": "batch", "bytes": 314572800, "mime_type": "application/jsonl"}'
""",
    python="""
from pathlib import Path

upload = client.uploads.upload_file_chunked(
    file=Path("requests.jsonl"), mime_type="application/jsonl", purpose="batch"
)  # creates it, sends the parts, completes it
print(upload.file.id)
""",
)

add_part = operation(
    "addUploadPart",
    "Add a part",
    tag=TAG,
    description="What is sent twice may be left out at the end; until then it takes room.",
    parameters=[_ID],
    body={"multipart/form-data": _PART},
    answers={200: UploadPart},
    errors={
        400: f"{schema.BAD_REQUEST} Or the upload has ended.",
        403: _FULL,
        404: schema.NOT_FOUND,
        415: schema.UNSUPPORTED,
    },
    curl="""
curl -H "Authorization: Bearer $API_KEY" -F data=@part-1 \\
     $BATCHDESK/v1/uploads/upload_6a1f0c9d3b7e4d2a8c5f1e0b/parts
""",
    python="""
with open("part-1", "rb") as data:
    part = client.uploads.parts.create("upload_6a1f0c9d3b7e4d2a8c5f1e0b", data=data)
""",
)

complete_upload = operation(
    "completeUpload",
    "Complete an upload",
    tag=TAG,
    description="Makes one file of the parts. The same call again answers the same file.",
    parameters=[_ID],
    body=Completion,
    answers={200: Upload},
    errors={
        400: f"{schema.BAD_REQUEST} Or the parts are not what was announced, or the upload has ended.",
        403: _FULL,
        404: schema.NOT_FOUND,
        415: schema.UNSUPPORTED,
        503: "The database is away, or another call is completing the upload: try again after `Retry-After` seconds.",
    },
    curl="""
curl -H "Authorization: Bearer $API_KEY" -H "Content-Type: application/json" \\
     $BATCHDESK/v1/uploads/upload_6a1f0c9d3b7e4d2a8c5f1e0b/complete \\
     -d '{"part_ids": ["part_0f9e8d7c6b5a493827160514"]}'
""",
    python="""
upload = client.uploads.complete(
    "upload_6a1f0c9d3b7e4d2a8c5f1e0b", part_ids=["part_0f9e8d7c6b5a493827160514"]
)
print(upload.file.id)
""",
)

cancel_upload = operation(
    "cancelUpload",
    "Cancel an upload",
    tag=TAG,
    description="Its parts are removed, and its room is free again. The body is empty.",
    parameters=[_ID],
    answers={200: Upload},
    errors={
        400: f"{schema.BAD_REQUEST} Or the upload is completed or has expired.",
        404: schema.NOT_FOUND,
        415: schema.UNSUPPORTED,
    },
    curl='curl -X POST -H "Authorization: Bearer $API_KEY" '
    "$BATCHDESK/v1/uploads/upload_6a1f0c9d3b7e4d2a8c5f1e0b/cancel",
    python='client.uploads.cancel("upload_6a1f0c9d3b7e4d2a8c5f1e0b")',
)
