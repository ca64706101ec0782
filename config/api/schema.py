"""The words in which each app's `api/schema.py` describes its operations (OpenAPI 3.1)."""

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, TypeVar

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema, extend_schema_field
from rest_framework import serializers

from config.api.fields import EXPIRES_AFTER_SECONDS, IDEMPOTENCY_KEY_LENGTH

View = TypeVar("View", bound=Callable[..., Any])
Json = dict[str, Any]

BAD_REQUEST = "A parameter is missing or has an unsupported value, or the request cannot be read."
UNSUPPORTED = "The `Content-Type` is not the one that is expected here."
NOT_FOUND = "There is no such object, or it is another account's."
_ERRORS: dict[int, str] = {
    HTTPStatus.BAD_REQUEST: BAD_REQUEST,
    HTTPStatus.UNAUTHORIZED: "The API key is missing, wrong, revoked or expired.",
    HTTPStatus.FORBIDDEN: "The account is disabled.",
    HTTPStatus.TOO_MANY_REQUESTS: "Too many requests in this minute: try again after `Retry-After` seconds.",
    HTTPStatus.INTERNAL_SERVER_ERROR: "A fault of the service.",
    HTTPStatus.SERVICE_UNAVAILABLE: "The service cannot reach its database: try again after `Retry-After` seconds.",
}
_AFTER_THE_LIMIT = (400, 403, 404, 409, 415, 416, 429, 500, 503)  # which it may have been counted before


class BearerScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # its registration is not annotated
    """Registers itself by being defined."""

    target_class = "billing_app.authentication.BearerAuthentication"
    name = "bearer"

    def get_security_definition(self, auto_schema: Any) -> Json:
        return {
            "type": "http",
            "scheme": "bearer",
            "description": "`Authorization: Bearer sk-…`, the account's API key.",
        }


def finish(result: Json, **_: Any) -> Json:
    """What drf-spectacular has no word for."""
    for methods in result["paths"].values():
        for operation in methods.values():
            if "requestBody" in operation:
                operation["requestBody"]["required"] = True  # a form that is described by hand is taken for optional
    _forget_marks(result["components"])
    return result


def _forget_marks(part: object) -> None:
    if isinstance(part, dict):
        part.pop("x-spec-enum-id", None)  # for a hook that is not used here
    for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        _forget_marks(inner)


class ErrorDetail(serializers.Serializer[Any]):
    message = serializers.CharField(help_text="A sentence for people.")
    type = serializers.ChoiceField(
        ["invalid_request_error", "insufficient_quota", "requests", "server_error"],
        help_text="The kind of error; `requests` is the rate limit.",
    )
    param = serializers.CharField(allow_null=True, help_text="The parameter that is at fault.")
    code = serializers.CharField(allow_null=True, help_text="For programs, such as `missing_required_parameter`.")


class Error(serializers.Serializer[Any]):
    """Every error has this shape, whatever the request accepts."""

    error = ErrorDetail()


class FixedField(serializers.ChoiceField):
    """`object` and its like: always the same word."""

    def __init__(self, word: str, **options: Any) -> None:
        super().__init__([word], **options)


class Moment(serializers.IntegerField):
    """Unix seconds."""


@extend_schema_field({"type": "integer", "minimum": EXPIRES_AFTER_SECONDS.start, "maximum": EXPIRES_AFTER_SECONDS[-1]})
class ExpirySeconds(serializers.IntegerField):
    pass


class ExpiresAfter(serializers.Serializer[Any]):
    anchor = serializers.ChoiceField(["created_at"], help_text="What the seconds are counted from.")
    seconds = ExpirySeconds(help_text="An hour to thirty days.")


def page_of(item: type[serializers.Serializer[Any]]) -> type[serializers.Serializer[Any]]:
    """The list object of `item`."""
    members = {
        "object": FixedField("list"),
        "data": item(many=True),
        "first_id": serializers.CharField(allow_null=True, help_text="Of `data`; null where that is empty."),
        "last_id": serializers.CharField(allow_null=True, help_text="What to give as `after` for the next page."),
        "has_more": serializers.BooleanField(help_text="Whether there is a next page."),
    }
    return type(f"{item.__name__}List", (serializers.Serializer,), members)


def error(description: str) -> OpenApiResponse:
    return OpenApiResponse(Error, description)


def query(name: str, schema: Json, description: str, **options: Any) -> OpenApiParameter:
    return OpenApiParameter(name, schema, OpenApiParameter.QUERY, description=description, **options)


def list_of(items: Json, **limits: int) -> Json:
    return {"type": "array", "items": items, **limits}


def by_comma(name: str, schema: Json, description: str) -> OpenApiParameter:
    return query(name, schema, description, style="form", explode=False)


def path_id(name: str, example: str, description: str) -> OpenApiParameter:
    schema = {"type": "string", "minLength": 1, "example": example}
    return OpenApiParameter(name, schema, OpenApiParameter.PATH, required=True, description=description)


def paging(*, default: int, maximum: int) -> list[OpenApiParameter]:
    limit = {"type": "integer", "minimum": 1, "maximum": maximum, "default": default}
    return [
        query("after", {"type": "string"}, "The id of the last object of the page before."),
        query("limit", limit, "How many objects a page has at most."),
        query("order", {"type": "string", "enum": ["asc", "desc"], "default": "desc"}, "By creation."),
    ]


IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    {"type": "string", "maxLength": IDEMPOTENCY_KEY_LENGTH, "pattern": "^[ -~]*$"},
    OpenApiParameter.HEADER,
    description="The same key with the same request answers the same object; with another request 409.",
)


def answer_header(
    name: str, description: str, *statuses: int, pattern: str = "", required: bool = False
) -> OpenApiParameter:
    """Of the answers with these statuses; without any, of all."""
    schema: Json = {"type": "string", "pattern": pattern} if pattern else {"type": "string"}
    on: list[int | str] = list(statuses)
    return OpenApiParameter(name, schema, OpenApiParameter.HEADER, required, description, response=on or True)


def operation(
    operation_id: str,
    summary: str,
    *,
    tag: str,
    answers: Mapping[Any, Any],
    curl: str,
    python: str,
    description: str = "",
    errors: Mapping[int, str] | None = None,
    parameters: Sequence[OpenApiParameter] = (),
    body: Any = None,
) -> Callable[[View], View]:
    """Describes the method of a view. `answers` are those of success, `errors` what comes on top of those that every
    operation has; `curl` and `python` are examples, with `$BATCHDESK` the address and `client` the SDK's."""
    samples = [{"lang": "curl", "source": curl.strip()}, {"lang": "Python", "source": python.strip()}]
    statuses = [key[0] if isinstance(key, tuple) else key for key in answers]
    refused: dict[int, str] = {**_ERRORS, **(errors or {})}
    return extend_schema(
        operation_id=operation_id,
        summary=summary,
        description=description.strip(),
        tags=[tag],
        parameters=[*parameters, *_headers(statuses)],
        request=body,
        responses=dict(answers) | {int(status): error(refused[status]) for status in sorted(refused)},
        extensions={"x-codeSamples": samples},
    )


def _headers(statuses: Sequence[int]) -> list[OpenApiParameter]:
    text = "To be told when something is to be asked about this request."
    return [
        answer_header("x-request-id", text, pattern="^req_[0-9a-f]{32}$", required=True),
        answer_header("WWW-Authenticate", "`Bearer`", 401, required=True),
        answer_header("Retry-After", "Seconds after which to try again.", 429, 503, pattern="^[0-9]+$"),
        answer_header("x-should-retry", "`false` where trying again is no use.", 409, 429, pattern="^false$"),
        *_rate_limit_headers(*statuses, required=True),
        *_rate_limit_headers(*_AFTER_THE_LIMIT, required=False),
    ]


def _rate_limit_headers(*statuses: int, required: bool) -> list[OpenApiParameter]:
    number, duration = "^[0-9]+$", "^([0-9]+m)?[0-9]+s$"
    return [
        answer_header(f"x-ratelimit-{name}-requests", text, *statuses, pattern=pattern, required=required)
        for name, text, pattern in (
            ("limit", "Requests of this kind that the account may make in a minute.", number),
            ("remaining", "How many of them are left in this minute.", number),
            ("reset", "When that is full again: `1s`, `6m0s`.", duration),
        )
    ]
