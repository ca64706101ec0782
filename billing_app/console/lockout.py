"""That somebody is locked out is in the audit log: once, however often they try on. What is nobody's name is written
down nowhere: it may be a password, or a key, in the wrong field."""

from datetime import datetime
from typing import Any

from django.conf import settings
from django.contrib.auth.forms import UsernameField
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.crypto import salted_hmac

from billing_app import audit
from billing_app.models import AuditEntry
from config import client_address
from config.console import views

ACTION = "operator.locked_out"
NOBODY = "not signed in"


def locked_out(request: HttpRequest, *args: Any) -> HttpResponse:
    """For AXES_LOCKOUT_CALLABLE."""
    if user := _user(request):
        _tell(user, client_address.of(request), timezone.now())
    return views.locked_out(request, {})


def name_to_count(request: HttpRequest, credentials: object) -> str:
    """For AXES_USERNAME_CALLABLE: what it keeps of each attempt."""
    if user := _user(request):
        return user.username
    return salted_hmac("lockout", _name(request)).hexdigest()


def _user(request: HttpRequest) -> User | None:
    return User.objects.filter(username=_name(request)).first()


def _name(request: HttpRequest) -> str:
    """As the form reads it: with a space behind it, it is the same name."""
    name = str(UsernameField().to_python(request.POST.get("username", "")))
    return name.replace("\0", "\ufffd")


def _tell(user: User, address: str, now: datetime) -> None:
    since = now - settings.AXES_COOLOFF_TIME
    told = AuditEntry.objects.filter(
        action=ACTION, target=audit.named(user), address=address[:64], created_at__gt=since
    )
    if not told.exists():
        audit.record(actor=NOBODY, action=ACTION, target=user, address=address)
