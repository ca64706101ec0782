"""B9: no view of /v1 is without a rate limit."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django.test import RequestFactory
from django.urls import URLPattern, URLResolver, get_resolver
from rest_framework.request import Request

from billing_app.throttling import AccountThrottle
from config.api.errors import unknown_url
from config.api.schema_document import openapi_json
from config.api.scopes import Scope
from config.api.views import ApiView


def callbacks(resolver: URLResolver, prefix: str = "") -> Iterator[Any]:
    for entry in resolver.url_patterns:
        path = prefix + str(entry.pattern)
        if isinstance(entry, URLResolver):
            yield from callbacks(entry, path)
        elif isinstance(entry, URLPattern) and path.lstrip("^").startswith("v1"):
            yield entry.callback


# The document is for everybody, without a key that could be counted, and made once.
VIEWS = [callback for callback in callbacks(get_resolver()) if callback not in (unknown_url, openapi_json)]


def unlimited(view: type[ApiView]) -> set[str]:
    """Its methods without a scope, and its scopes without a method."""
    methods = {method for method in ("get", "post", "delete", "put", "patch") if hasattr(view, method)}
    return methods ^ set(getattr(view, "scopes", {}))


@pytest.mark.parametrize("view", [callback.view_class for callback in VIEWS])
def test_every_method_has_a_scope(view: type[ApiView]) -> None:
    assert issubclass(view, ApiView)
    assert unlimited(view) == set()
    assert view.throttle_classes == [AccountThrottle]


def test_the_guard_sees_what_is_missing() -> None:
    class Forgetful(ApiView):
        scopes = {"get": Scope.MODELS}

        def get(self) -> None: ...

        def post(self) -> None: ...

    assert unlimited(Forgetful) == {"post"}
    assert len(VIEWS) >= 8


@pytest.mark.parametrize(
    ("method", "scope"), [("GET", Scope.MODELS), ("HEAD", Scope.MODELS), ("POST", Scope.USAGE), ("PUT", Scope.USAGE)]
)
def test_head_counts_as_get_and_what_is_not_allowed_as_the_first(method: str, scope: Scope) -> None:
    view = ApiView(scopes={"post": Scope.USAGE, "get": Scope.MODELS})
    view.request = Request(RequestFactory().generic(method, "/"))
    assert view.scope is scope


def test_every_scope_has_a_limit() -> None:
    assert set(settings.RATE_LIMITS) == set(Scope)
