"""Signing in and out, and what a viewer prefers."""

from typing import Any

from django.conf import settings
from django.contrib.auth.views import LoginView
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.shortcuts import render
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import check_for_language
from django.views.decorators.http import require_POST

from config.console.nav import THEME_COOKIE, THEMES

YEAR = 365 * 24 * 3600


class Login(LoginView):
    template_name = "console/login.html"
    redirect_authenticated_user = True


def locked_out(request: HttpRequest, credentials: dict[str, Any], *_: Any, **__: Any) -> HttpResponse:
    minutes = int(settings.AXES_COOLOFF_TIME.total_seconds() // 60)
    return render(request, "console/locked_out.html", {"minutes": minutes}, status=429)


@require_POST
def preferences(request: HttpRequest) -> HttpResponseBase:
    """Theme and language, in cookies: they belong to the browser, and the page to sign in has them too."""
    back = request.POST.get("back", "")
    ours = url_has_allowed_host_and_scheme(back, {request.get_host()}, request.is_secure())
    response = HttpResponseRedirect(back if ours else "/console/")
    if (theme := request.POST.get("theme", "")) in THEMES:
        _remember(request, response, THEME_COOKIE, theme)
    if (language := request.POST.get("language", "")) and check_for_language(language):
        _remember(request, response, settings.LANGUAGE_COOKIE_NAME, language)
    return response


def _remember(request: HttpRequest, response: HttpResponse, name: str, value: str) -> None:
    response.set_cookie(name, value, max_age=YEAR, samesite="Lax", secure=request.is_secure(), httponly=True)


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    return render(request, "console/forbidden.html", status=403)
