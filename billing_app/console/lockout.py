"""That somebody is locked out is in the audit log: once, however often they try on."""

from datetime import datetime
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from billing_app import audit
from billing_app.models import AuditEntry
from config import client_address
from config.console import views

ACTION = "operator.locked_out"
NOBODY = "not signed in"


def locked_out(request: HttpRequest, *args: Any) -> HttpResponse:
    """For AXES_LOCKOUT_CALLABLE."""
    # Of names that are nobody's nothing is written: one of them may be a password in the wrong field.
    if user := User.objects.filter(username=_name(request)).first():
        _tell(user, client_address.of(request), timezone.now())
    return views.locked_out(request, {})


def _name(request: HttpRequest) -> str:
    return request.POST.get("username", "").replace("\0", "\ufffd")


def _tell(user: User, address: str, now: datetime) -> None:
    since = now - settings.AXES_COOLOFF_TIME
    told = AuditEntry.objects.filter(
        action=ACTION, target=audit.named(user), address=address[:64], created_at__gt=since
    )
    if not told.exists():
        audit.record(actor=NOBODY, action=ACTION, target=user, address=address)
