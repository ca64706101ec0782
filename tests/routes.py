"""The console's routes, for who has to know all of them."""

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
