"""Signing in and out, and what a viewer prefers."""

from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.auth.forms import AuthenticationForm, UsernameField
from django.contrib.auth.models import User
from django.contrib.auth.views import LoginView
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.shortcuts import render
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_POST

from config.console.nav import THEME_COOKIE, THEMES

YEAR = 365 * 24 * 3600


class SignInForm(AuthenticationForm):
    # Django sets a limit for the browser alone, and axes keeps what was tried in a column.
    username = UsernameField(label=_("Name"), max_length=User._meta.get_field("username").max_length)
    error_messages = {
        "invalid_login": _("This name and this password do not go together. Both mind upper and lower case."),
        "inactive": _("This name and this password do not go together. Both mind upper and lower case."),
        "not_staff": _("This name is not an operator's. An administrator can change that."),
    }

    def confirm_login_allowed(self, user: Any) -> None:
        super().confirm_login_allowed(user)
        if not getattr(user, "is_staff", False):
            raise ValidationError(self.error_messages["not_staff"], code="not_staff")


class Login(LoginView):
    template_name = "console/login.html"
    authentication_form = SignInForm
    redirect_authenticated_user = True

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if request.user.is_authenticated and not request.user.is_staff:
            # Who was an operator when they signed in: the page that they came from would send them here again.
            raise PermissionDenied
        return super().dispatch(request, *args, **kwargs)

    def get_redirect_url(self, request: HttpRequest | None = None) -> str:
        wanted = super().get_redirect_url()
        return "" if urlsplit(wanted).path == self.request.path else wanted


def locked_out(request: HttpRequest, credentials: dict[str, Any], *args: Any, **kwargs: Any) -> HttpResponse:
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
    if (language := request.POST.get("language", "")) in dict(settings.LANGUAGES):
        _remember(request, response, settings.LANGUAGE_COOKIE_NAME, language)
    return response


def _remember(request: HttpRequest, response: HttpResponse, name: str, value: str) -> None:
    response.set_cookie(name, value, max_age=YEAR, samesite="Lax", secure=request.is_secure(), httponly=True)


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    return render(request, "console/forbidden.html", status=403)


def csrf_failed(request: HttpRequest, reason: str = "") -> HttpResponse:
    return render(request, "console/csrf_failed.html", status=403)
