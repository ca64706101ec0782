"""Tenants of the API within the test's process: an account with a key, and what it sends."""

import json
import uuid
from datetime import datetime, timedelta
from typing import Any

from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.utils import timezone

from batches_app.models import Batch
from billing_app import api_keys, quotas
from billing_app.models import Account
from config.api import ids
from files_app import blobs
from files_app.models import StoredFile

LINE = b'{"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {}}\n'


class Tenant:
    def __init__(self, name: str) -> None:
        self.account = Account.objects.create(name=name)
        self.api_key, self.key = api_keys.issue(self.account)
        self._client = Client(raise_request_exception=False, headers={"Authorization": f"Bearer {self.key}"})

    def get(self, path: str, query: dict[str, Any] | None = None, /, **headers: str) -> Any:
        return self._client.get(f"/v1/{path}", query, headers=headers)

    def delete(self, path: str) -> Any:
        return self._client.delete(f"/v1/{path}")

    def post(
        self,
        path: str,
        body: object = None,
        *,
        raw: bytes | None = None,
        content_type: str = "application/json",
        headers: dict[str, str] | None = None,
    ) -> Any:
        data = raw if raw is not None else b"" if body is None else json.dumps(body).encode()
        return self._client.post(f"/v1/{path}", data, content_type=content_type, headers=headers)

    def upload(self, content: bytes = LINE, /, name: str = "in.jsonl", *, key: str = "", **fields: str) -> Any:
        form = {"file": SimpleUploadedFile(name, content), "purpose": "batch"} | fields
        headers = {"Idempotency-Key": key} if key else {}
        return self._client.post("/v1/files", form, headers=headers)

    def announce(self, size: object = len(LINE), **changes: object) -> Any:
        body = {"filename": "in.jsonl", "purpose": "batch", "bytes": size, "mime_type": "application/jsonl"}
        return self.post("uploads", body | changes)

    def add_part(self, upload_id: str, content: bytes = LINE) -> Any:
        return self._client.post(f"/v1/uploads/{upload_id}/parts", {"data": SimpleUploadedFile("upload", content)})

    def complete(self, upload_id: str, *part_ids: str, **fields: str) -> Any:
        return self.post(f"uploads/{upload_id}/complete", {"part_ids": part_ids} | fields)

    def create_batch(self, **changes: object) -> Any:
        body = {"input_file_id": "file-batch-x", "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        return self.post("batches", body | changes)

    def has_batch(self, *, created_at: datetime | None = None, **columns: Any) -> Batch:
        created_at = created_at or timezone.now()
        defaults = {"endpoint": "/v1/chat/completions", "completion_window": "24h", "input_file_id": "file-batch-x"}
        expires_at = created_at + timedelta(days=1)
        return Batch.objects.create(
            account=self.account, created_at=created_at, expires_at=expires_at, **(defaults | columns)
        )

    def has_file(self, content: bytes = LINE, **columns: Any) -> StoredFile:
        defaults = {"filename": "in.jsonl", "purpose": "batch", "sha256": uuid.uuid4().hex}
        blob = blobs.write(f"files/{timezone.now():%Y-%m-%d}", content)
        quotas.keep(self.account, files=1, size=len(content))
        return StoredFile.objects.create(account=self.account, blob=blob, bytes=len(content), **(defaults | columns))

    def has_result(self, content: bytes, filename: str = "batch_1_output.jsonl") -> StoredFile:
        return self.has_file(content, public_id=ids.output_file_id(), purpose="batch_output", filename=filename)


def error_of(response: Any, status: int) -> dict[str, Any]:
    """The envelope of C1: all four keys, whatever went wrong."""
    body = response.json()
    assert response.status_code == status, body
    assert list(body) == ["error"]
    assert set(body["error"]) == {"message", "type", "param", "code"}
    error: dict[str, Any] = body["error"]
    return error
