"""What every view of /v1 is made of. (Apart from `handler`: DRF loads that when it defines APIView.)"""

from collections.abc import Mapping
from functools import cached_property
from typing import Any, cast

from django.http import HttpRequest
from rest_framework.request import Request
from rest_framework.views import APIView

from config.api.body import Body
from config.api.handler import refuse_broken_text
from config.api.scopes import Scope


class ApiRequest(Request):
    def _load_stream(self) -> None:
        body = Body(self._request.META)
        self._stream = cast(Any, None if body.length == 0 else body)  # not a BinaryIO, but enough for our parsers


class ApiView(APIView):
    http_method_names = ["get", "head", "post", "delete"]
    scopes: Mapping[str, Scope]  # by method, the first for whatever is not allowed here: a 405 counts too

    @property
    def scope(self) -> Scope:
        method = (self.request.method or "").lower()
        return self.scopes.get("get" if method == "head" else method) or next(iter(self.scopes.values()))

    @cached_property
    def default_response_headers(self) -> dict[str, str]:
        # `Allow` belongs to a 405; DRF puts it on every answer.
        method = (self.request.method or "").lower()
        is_allowed = method in self.http_method_names and hasattr(self, method)
        return {} if is_allowed else {"Allow": ", ".join(self.allowed_methods)}

    def initialize_request(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Request:
        return ApiRequest(
            request,
            parsers=self.get_parsers(),
            authenticators=self.get_authenticators(),
            negotiator=self.get_content_negotiator(),
            parser_context=self.get_parser_context(request),
        )

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        refuse_broken_text(request.META)


def fields_of(request: Request) -> dict[str, Any]:
    """The body, which our parsers have made sure is an object or a form."""
    return cast(dict[str, Any], request.data)
