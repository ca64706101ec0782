"""The OpenAPI document of /v1, made once in each process: it changes with the code alone."""

import hashlib
from functools import cache
from typing import Any

import msgspec
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.gzip import gzip_page
from django.views.decorators.http import condition, require_safe
from drf_spectacular.generators import SchemaGenerator

MAX_AGE = 300  # seconds


@cache
def document() -> dict[str, Any]:
    generator: Any = SchemaGenerator  # which is not annotated
    schema: dict[str, Any] = generator().get_schema(public=True)
    return schema


@cache
def _encoded() -> bytes:
    return msgspec.json.encode(document())


@cache
def _etag() -> str:
    return f'"{hashlib.sha256(_encoded()).hexdigest()}"'


@csrf_exempt  # Django's refusal would be a page
@require_safe
@gzip_page
@condition(etag_func=lambda request: _etag())
def openapi_json(request: HttpRequest) -> HttpResponse:
    """For everybody: it says nothing that the source does not say."""
    headers = {"Cache-Control": f"public, max-age={MAX_AGE}", "Access-Control-Allow-Origin": "*"}
    return HttpResponse(_encoded(), content_type="application/json", headers=headers)
