"""JSON in, JSON out, and nothing in between that can break it (C1, C3, C6)."""

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec
from django.conf import settings
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

from config.api.errors import BadRequest

MENDED = re.compile("%[89A-F][0-9A-F]")  # how Django shows a byte of a path that is not UTF-8


class JSONRenderer(BaseRenderer):
    media_type = "application/json"
    format = "json"
    charset = None

    def render(
        self, data: Any, accepted_media_type: str | None = None, renderer_context: Mapping[str, Any] | None = None
    ) -> bytes:
        return b"" if data is None else msgspec.json.encode(data)


class StrictJSONParser(BaseParser):
    """C6. msgspec refuses lone surrogates, NaN, raw control characters and numbers out of range."""

    media_type = "application/json"

    def parse(
        self, stream: Any, media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        size = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        stream.limit(size, BadRequest(f"The request body is larger than {size} bytes."))
        return json_object(stream.read_all())


def json_object(body: bytes) -> dict[str, Any]:
    if not body:
        return {}
    try:
        data = msgspec.json.decode(body)
    except RecursionError:
        raise BadRequest("The JSON body is nested too deeply.") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"The request body is not valid JSON: {error}.") from None
    if not isinstance(data, dict):
        raise BadRequest("The request body must be a JSON object.")
    if b"\\u0000" in body and _has_nul(data):
        raise BadRequest("The request body contains a NUL character.")
    return data


def _has_nul(data: object) -> bool:
    waiting = [data]  # no recursion: the data may be as deep as the decoder allows
    while waiting:
        match waiting.pop():
            case str(text):
                if "\0" in text:
                    return True
            case dict(members):
                waiting += members.keys()
                waiting += members.values()
            case list(items):
                waiting += items
    return False


class JSONAlways(DefaultContentNegotiation):
    """C3: SDKs send `Accept: application/binary`, and get JSON or the file all the same."""

    def select_renderer(  # type: ignore[override]  # the stubs' renderers are instances of one generic list
        self, request: Request, renderers: Sequence[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        return renderers[0], renderers[0].media_type


def refuse_broken_text(meta: Mapping[str, Any]) -> None:
    """C6 for the path and the query string, in which Django mends what is not UTF-8."""
    path: str = meta.get("PATH_INFO", "")
    if "\0" in path or MENDED.search(path):
        raise BadRequest("The path of the URL is not valid UTF-8 text.")
    query = unquote_to_bytes(meta.get("QUERY_STRING", "").encode("latin-1", "replace"))
    if b"\0" in query or not _is_utf8(query):
        raise BadRequest("The query string of the URL is not valid UTF-8 text.")


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True
