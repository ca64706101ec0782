"""The API's reference for people: the OpenAPI document, shown. In English alone, as the API's messages are."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.views.decorators.gzip import gzip_page
from django.views.decorators.http import require_safe
from django.views.decorators.vary import vary_on_cookie

from config.api.schema_document import document
from config.console.nav import THEME_COOKIE, THEMES

Json = Mapping[str, Any]
ADDRESS = "$BATCHDESK"
_SHORT_CIRCUIT = ("oneOf", "anyOf", "allOf")


@dataclass(frozen=True, slots=True)
class Member:
    """A parameter, a header, or a member of an object. `refers_to`: the object that it is, or is made of."""

    name: str
    place: str
    kind: str
    refers_to: str
    is_required: bool
    about: SafeString


@dataclass(frozen=True, slots=True)
class Answer:
    status: str
    tone: str
    about: SafeString
    refers_to: str
    headers: Sequence[Member]


@dataclass(frozen=True, slots=True)
class Operation:
    name: str
    method: str
    path: str
    summary: str
    about: SafeString
    parameters: Sequence[Member]
    body_kind: str
    body: Sequence[Member]
    answers: Sequence[Answer]
    samples: Sequence[tuple[str, str]]


@require_safe
@vary_on_cookie
@gzip_page
def api_reference(request: HttpRequest) -> HttpResponse:
    theme = request.COOKIES.get(THEME_COOKIE, "")
    return HttpResponse(_page(request.build_absolute_uri("/").rstrip("/"), theme if theme in THEMES else "auto"))


@lru_cache(maxsize=8)  # everybody may look, and it takes a tenth of a second
def _page(origin: str, theme: str) -> str:
    info = document()["info"]
    return render_to_string(
        "docs/reference.html",
        {
            "title": info["title"],
            "about": marked(info["description"]),
            "origin": origin,
            "groups": _groups(origin),
            "objects": _objects(),
            "theme": theme,
        },
    )


def _groups(origin: str) -> dict[str, list[Operation]]:
    groups: dict[str, list[Operation]] = {tag["name"]: [] for tag in document()["tags"]}
    for path, methods in document()["paths"].items():
        for method, found in methods.items():
            groups[found["tags"][0]].append(_operation(path, method, found, origin))
    return {name: operations for name, operations in groups.items() if operations}


def _operation(path: str, method: str, found: Json, origin: str) -> Operation:
    body_kind, body = _content(found.get("requestBody", {}))
    return Operation(
        name=found["operationId"],
        method=method.upper(),
        path=path,
        summary=found["summary"],
        about=marked(found.get("description", "")),
        parameters=[_parameter(one) for one in found.get("parameters", [])],
        body_kind=body_kind,
        body=list(_members(_resolved(body))),
        answers=[_answer(status, one) for status, one in found["responses"].items()],
        samples=[(one["lang"], one["source"].replace(ADDRESS, origin)) for one in found["x-codeSamples"]],
    )


def _content(found: Json) -> tuple[str, Json]:
    """The one media type that a body or an answer has, with its schema; of none, empty."""
    return next(((kind, one["schema"]) for kind, one in found.get("content", {}).items()), ("", {}))


def _parameter(found: Json) -> Member:
    is_required = found.get("required", False)
    return _member(found["name"], found["schema"], is_required, found.get("description", ""), found["in"])


def _answer(status: str, found: Json) -> Answer:
    tone = {"2": "ok", "4": "warning"}.get(status[0], "danger")
    headers = [
        _member(name, one["schema"], False, one.get("description", ""))
        for name, one in found.get("headers", {}).items()
    ]
    return Answer(status, tone, marked(found["description"]), _target(_content(found)[1]), headers)


def _objects() -> dict[str, list[Member]]:
    """Without what is required: that is told where they are sent, and what is answered has all of its members."""
    schemas: Mapping[str, Json] = document()["components"]["schemas"]
    return {name: list(_members({**schema, "required": ()})) for name, schema in schemas.items()}


def _members(schema: Json) -> Iterator[Member]:
    required = schema.get("required", ())
    for name, one in schema.get("properties", {}).items():
        yield _member(name, one, name in required, one.get("description", ""))


def _member(name: str, schema: Json, is_required: bool, about: str, place: str = "") -> Member:
    return Member(name, place, kind_of(schema), _target(schema), is_required, marked(about))


def kind_of(schema: Json) -> str:
    """In words: `integer, 1 to 100, 20 unless given`."""
    limits = [*_limits(schema)]
    return ", ".join([_type(schema), *limits])


def _type(schema: Json) -> str:
    for way in _SHORT_CIRCUIT:
        if way in schema:
            return " or ".join(_type(one) for one in schema[way])
    if "$ref" in schema:
        return _target(schema)
    if "items" in schema:
        return f"list of {kind_of(schema['items'])}"
    kinds = schema.get("type", "bytes" if "contentMediaType" in schema else "any")
    return " or ".join(kinds) if isinstance(kinds, list) else str(kinds)


def _limits(schema: Json) -> Iterator[str]:
    if values := schema.get("enum"):
        yield ("one of " if len(values) > 1 else "always ") + " · ".join(map(str, values))
    if "minimum" in schema and "maximum" in schema:
        yield f"{schema['minimum']:,} to {schema['maximum']:,}"
    for name, words in (("maxLength", "characters"), ("maxItems", "of them"), ("maxProperties", "members")):
        if name in schema:
            yield f"up to {schema[name]:,} {words}"
    if "default" in schema:
        yield f"{schema['default']} unless given"


def _target(schema: Json) -> str:
    if "items" in schema:
        return _target(schema["items"])
    inner = [one for way in _SHORT_CIRCUIT for one in schema.get(way, ())]
    reference = schema.get("$ref") or next((one["$ref"] for one in inner if "$ref" in one), "")
    return str(reference).rpartition("/")[2]


def _resolved(schema: Json) -> Json:
    name = _target(schema)
    resolved: Json = document()["components"]["schemas"][name] if name else schema
    return resolved


def marked(text: str) -> SafeString:
    """`code` in backquotes; nothing else is markup."""
    pieces = enumerate(text.split("`"))
    return format_html_join("", "{}", ((format_html("<code>{}</code>", one) if n % 2 else one,) for n, one in pieces))
