"""The service's routes, for who has to know all of them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from django.urls import URLPattern, URLResolver, get_resolver

# They answer with a file, not with a page.
FILES = frozenset({"audit_csv", "batches_csv", "download_file", "line_part", "statement", "usage_csv"})


def console() -> list[URLPattern]:
    resolver = next(one for one in get_resolver("config.urls").url_patterns if _is_console(one))
    assert isinstance(resolver, URLResolver)
    return [route for route in resolver.url_patterns if isinstance(route, URLPattern)]


def _is_console(entry: URLPattern | URLResolver) -> bool:
    return isinstance(entry, URLResolver) and entry.namespace == "console"


def pages() -> list[URLPattern]:
    """What there is to see for who is signed in."""
    return [route for route in console() if "GET" in methods(route) and route.name not in FILES]


def methods(route: URLPattern) -> tuple[str, ...]:
    """What it takes (`access.page`)."""
    return tuple(getattr(route.callback, "methods", ()))


@dataclass(frozen=True)
class Route:
    """Any route of the service. `path` as the URL conf has it: v1/files/<str:file_id>."""

    path: str
    entry: URLPattern

    @property
    def view(self) -> Any:
        """The class of a class-based view, else the function."""
        callback = self.entry.callback
        return getattr(callback, "view_class", callback)

    def address(self, **values: object) -> str:
        """`values` by the names of its converters."""
        return "/" + _CONVERTER.sub(lambda found: quote(str(values[found[1]]), safe="/"), self.path)


_CONVERTER = re.compile(r"<(?:\w+:)?(\w+)>")


def every(resolver: URLResolver | None = None, prefix: str = "") -> Iterator[Route]:
    for entry in (resolver or get_resolver("config.urls")).url_patterns:
        path = prefix + str(entry.pattern)
        if isinstance(entry, URLResolver):
            yield from every(entry, path)
        else:
            yield Route(path, entry)
