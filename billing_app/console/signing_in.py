"""Signing in and out, as the audit log has it."""

from typing import Any

from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.views import LogoutView
from django.http import HttpRequest, HttpResponse

from billing_app import audit
from config.console.views import Login


class SignIn(Login):
    def form_valid(self, form: AuthenticationForm) -> HttpResponse:
        response = super().form_valid(form)
        audit.record(**audit.by(self.request), action="operator.signed_in", target=form.get_user(), changes={})
        return response


class SignOut(LogoutView):
    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if request.user.is_authenticated:
            audit.record(**audit.by(request), action="operator.signed_out", target=request.user, changes={})
        return super().post(request, *args, **kwargs)
