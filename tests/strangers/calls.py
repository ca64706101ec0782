"""Every call of /v1, so that each can be made by somebody who may not make it, or about what is not theirs.

Whoever adds a route adds it here: `test_tenants.py` fails for one that is missing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from tests.tenants import LINE


class Thing(StrEnum):
    """What an id in a path may be of."""

    INPUT = "input"
    OUTPUT = "output"
    BATCH = "batch"
    UPLOAD = "upload"


Form = Mapping[str, Any]


@dataclass(frozen=True)
class Call:
    """`about`: whose id is in the path. `body` or `form`: what is sent, made from the ids of an account's things."""

    method: str
    about: Thing | None = None
    body: Callable[[Mapping[Thing, str]], Mapping[str, object]] | None = None
    form: Callable[[], Form] | None = None
    query: str = ""

    def make(self, client: Client, address: str, ids: Mapping[Thing, str]) -> Any:
        address += self.query
        if self.form is not None:
            return client.post(address, self.form())
        if self.body is not None:
            return client.post(address, self.body(ids), content_type="application/json")
        return client.generic(self.method, address)


def _multipart() -> Form:
    return {"file": SimpleUploadedFile("in.jsonl", LINE), "purpose": "batch"}


def part() -> Form:
    return {"data": SimpleUploadedFile("part", LINE)}


def _input(ids: Mapping[Thing, str]) -> Mapping[str, object]:
    return {"input_file_id": ids[Thing.INPUT], "endpoint": "/v1/chat/completions"}


def _batch(ids: Mapping[Thing, str]) -> Mapping[str, object]:
    return {**_input(ids), "completion_window": "24h"}


def _announced(_: Mapping[Thing, str]) -> Mapping[str, object]:
    return {"filename": "in.jsonl", "purpose": "batch", "bytes": len(LINE), "mime_type": "application/jsonl"}


def _completion(_: Mapping[Thing, str]) -> Mapping[str, object]:
    return {"part_ids": ["part_x"]}


CALLS: Mapping[str, tuple[Call, ...]] = {
    "v1/files": (Call("GET"), Call("POST", form=_multipart)),
    "v1/files/<str:file_id>": (Call("GET", Thing.INPUT), Call("DELETE", Thing.INPUT)),
    "v1/files/<str:file_id>/content": (Call("GET", Thing.OUTPUT),),
    "v1/uploads": (Call("POST", body=_announced),),
    "v1/uploads/<str:upload_id>/parts": (Call("POST", Thing.UPLOAD, form=part),),
    "v1/uploads/<str:upload_id>/complete": (Call("POST", Thing.UPLOAD, body=_completion),),
    "v1/uploads/<str:upload_id>/cancel": (Call("POST", Thing.UPLOAD),),
    "v1/models": (Call("GET"),),
    "v1/models/<path:model_id>": (Call("GET"),),  # of the installation, not of an account
    "v1/batches": (Call("GET"), Call("POST", body=_batch)),
    "v1/batches/estimate": (Call("POST", body=_input),),
    "v1/batches/<str:batch_id>": (Call("GET", Thing.BATCH),),
    "v1/batches/<str:batch_id>/cancel": (Call("POST", Thing.BATCH),),
    "v1/usage": (Call("GET", query="?start_time=1"),),
    "v1/costs": (Call("GET", query="?start_time=1"),),
}
# Without a key: the routes that say nothing of anybody.
OPEN = frozenset({"", "healthz", "readyz", "docs", "v1/openapi.json", "^v1(?:/|$)"})
