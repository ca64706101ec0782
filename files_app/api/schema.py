"""The Files API, described."""

from typing import Any

from django.conf import settings
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse
from rest_framework import serializers

from config.api import schema
from config.api.fields import EXPIRES_AFTER_SECONDS
from config.api.schema import FixedField, Json, Moment, answer_header, operation
from files_app.api.serializers import LIST_LIMIT
from files_app.models import StoredFile

TAG = "Files"
_ID = schema.path_id("file_id", "file-batch-5f0c7d1e9a3b4c2d8e6f7a1b", "Of the file.")
LARGEST = f"{settings.MAX_FILE_BYTES:,} bytes"


class File(serializers.Serializer[Any]):
    id = serializers.CharField(help_text="`file-batch-…`; of a result file `file-batch_output-…`.")
    object = FixedField("file")
    bytes = serializers.IntegerField(min_value=0)
    created_at = Moment(help_text="Unix seconds, as all times are.")
    expires_at = Moment(allow_null=True, help_text="When it will be deleted by itself.")
    filename = serializers.CharField()
    purpose = serializers.ChoiceField(StoredFile.Purpose.values, help_text="`batch_output`: the result of a batch.")
    status = FixedField("processed")
    status_details = serializers.CharField(allow_null=True)


class DeletedFile(serializers.Serializer[Any]):
    id = serializers.CharField()
    object = FixedField("file")
    deleted = serializers.BooleanField()


# Not a serializer: a Python name has no brackets.
_FORM: Json = {
    "type": "object",
    "required": ["purpose", "file"],
    "properties": {
        "purpose": {"type": "string", "enum": ["batch"]},
        "file": {
            "contentMediaType": "application/octet-stream",
            "description": f"JSON lines, up to {LARGEST}. Its name ends in `.jsonl` or has no extension.",
        },
        "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
        "expires_after[seconds]": {
            "type": "integer",
            "minimum": EXPIRES_AFTER_SECONDS.start,
            "maximum": EXPIRES_AFTER_SECONDS[-1],
            "description": "With `expires_after[anchor]`: the file is deleted so long after it was created.",
        },
    },
    "dependentRequired": {
        "expires_after[anchor]": ["expires_after[seconds]"],
        "expires_after[seconds]": ["expires_after[anchor]"],
    },
}

list_files = operation(
    "listFiles",
    "List files",
    tag=TAG,
    description="The account's files, result files too, newest first.",
    parameters=[
        *schema.paging(default=LIST_LIMIT, maximum=LIST_LIMIT),
        schema.query("purpose", {"type": "string"}, "Only files of this purpose: `batch` or `batch_output`."),
    ],
    answers={200: schema.page_of(File)},
    curl="""
curl -H "Authorization: Bearer $API_KEY" \\
     "$BATCHDESK/v1/files?purpose=batch_output&limit=20"
""",
    python="""
for file in client.files.list(purpose="batch_output", limit=20):
    print(file.id, file.filename, file.bytes)
""",
)

create_file = operation(
    "createFile",
    "Upload a file",
    tag=TAG,
    description=f"""
A file of requests for a batch, up to {LARGEST}, each on a line of its own:
`{{"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {{"model": "…", "messages": […]}}}}`.
What is in it is judged when a batch is made of it, not here.
Parts of the form may come in any order, and the body may be chunked. A broken upload leaves nothing behind.
""",
    parameters=[schema.IDEMPOTENCY_KEY],
    body={"multipart/form-data": _FORM},
    answers={200: File},
    errors={
        403: "The account is disabled, or keeps as many files or bytes as it may: deleting some makes room.",
        409: "This `Idempotency-Key` was used for another upload.",
        415: schema.UNSUPPORTED,
        503: "The database is away, or an upload with this `Idempotency-Key` is under way: try again later.",
    },
    curl="""
curl -H "Authorization: Bearer $API_KEY" \\
     -F purpose=batch -F file=@requests.jsonl \\
     $BATCHDESK/v1/files
""",
    python="""
with open("requests.jsonl", "rb") as requests:
    file = client.files.create(file=requests, purpose="batch")
print(file.id)
""",
)

retrieve_file = operation(
    "retrieveFile",
    "Retrieve a file",
    tag=TAG,
    parameters=[_ID],
    answers={200: File},
    errors={404: schema.NOT_FOUND},
    curl="""
curl -H "Authorization: Bearer $API_KEY" \\
     $BATCHDESK/v1/files/file-batch-5f0c7d1e9a3b4c2d8e6f7a1b
""",
    python='print(client.files.retrieve("file-batch-5f0c7d1e9a3b4c2d8e6f7a1b").bytes)',
)

delete_file = operation(
    "deleteFile",
    "Delete a file",
    tag=TAG,
    description="Batches that run on it are not disturbed: its bytes stay, and count, until none needs them.",
    parameters=[_ID],
    answers={200: DeletedFile},
    errors={404: schema.NOT_FOUND},
    curl="""
curl -X DELETE -H "Authorization: Bearer $API_KEY" \\
     $BATCHDESK/v1/files/file-batch-5f0c7d1e9a3b4c2d8e6f7a1b
""",
    python='client.files.delete("file-batch-5f0c7d1e9a3b4c2d8e6f7a1b")',
)

_BYTES: Json = {"contentMediaType": "application/octet-stream"}

file_content = operation(
    "downloadFile",
    "Download a file",
    tag=TAG,
    description="Result files; input files only where the operator allows it.",
    parameters=[
        _ID,
        OpenApiParameter(
            "Range", {"type": "string", "example": "bytes=0-1023"}, "header", description="One range of bytes."
        ),
        OpenApiParameter(
            "If-Range", {"type": "string"}, "header", description="An `ETag`: the range only of this version."
        ),
        answer_header("Content-Disposition", "With the filename.", 200, 206, required=True),
        answer_header("ETag", "Of the content.", 200, 206, required=True),
        answer_header("Accept-Ranges", "`bytes`", 200, 206, required=True),
        answer_header("Content-Range", "Which bytes these are, and of how many.", 206, 416, required=True),
    ],
    answers={
        (200, "application/octet-stream"): OpenApiResponse(_BYTES, "The whole file."),
        (206, "application/octet-stream"): OpenApiResponse(_BYTES, "The part that `Range` asks for."),
    },
    errors={
        400: f"{schema.BAD_REQUEST} Or the file is one of input.",
        404: schema.NOT_FOUND,
        416: "The range is not within the file.",
    },
    curl="""
curl -H "Authorization: Bearer $API_KEY" -o output.jsonl \\
     $BATCHDESK/v1/files/file-batch_output-0a1b2c3d4e5f60718293a4b5/content
""",
    python="""
content = client.files.content("file-batch_output-0a1b2c3d4e5f60718293a4b5")
content.write_to_file("output.jsonl")
""",
)
