"""Who may see and do what in the console. Denied unless a page says which permission it takes."""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase
from django.urls import reverse
from django.views.decorators.http import require_http_methods
from django_htmx.http import HttpResponseClientRefresh

View = Callable[..., HttpResponseBase]


def page(*permissions: str, methods: Sequence[str] = ("GET", "HEAD")) -> Callable[[View], View]:
    """For every view of the console: an operator who is signed in and has all these permissions, or 403.

    What changes anything takes methods=["POST"], which comes with Django's CSRF check. Without permissions a page is
    for every operator: nothing of a tenant may be on it.
    """

    def guard(view: View) -> View:
        @wraps(view)
        @require_http_methods(list(methods))
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            user = request.user
            if not user.is_authenticated:
                return _to_sign_in(request, methods)
            if not user.is_staff or not user.has_perms(permissions):
                raise PermissionDenied
            return view(request, *args, **kwargs)

        guarded.permissions = permissions  # type: ignore[attr-defined]  # for the test of roles and routes
        guarded.methods = tuple(methods)  # type: ignore[attr-defined]
        return guarded

    return guard


def _to_sign_in(request: HttpRequest, methods: Sequence[str]) -> HttpResponseBase:
    if getattr(request, "htmx", False):  # a part of a page that is open: it is the page that is to go there
        return HttpResponseClientRefresh()
    return redirect_to_login(request.get_full_path() if "GET" in methods else reverse("console:overview"))
