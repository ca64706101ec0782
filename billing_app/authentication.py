"""Who is calling: `Authorization: Bearer sk-…`."""

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import DatabaseError
from django.db.models import Q
from django.utils import timezone
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request
from structlog.contextvars import bind_contextvars

from billing_app import api_keys, rate_limits, side_writes
from billing_app.models import Account, APIKey
from config.api.errors import InvalidKey, QuotaExceeded

CACHE_SECONDS = 2.0  # a revoked key must be refused within five
CACHE_SIZE = 10_000
TOUCH_INTERVAL = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Caller:
    """What DRF calls the user."""

    account: Account
    rate_limits: Mapping[str, int]  # by scope
    is_authenticated: bool = True


@dataclass(frozen=True, slots=True)
class _Seen:
    key: APIKey
    rate_limits: Mapping[str, int]
    until: float


_seen: dict[bytes, _Seen] = {}  # by hash: keys themselves are not kept in memory


class BearerAuthentication(BaseAuthentication):
    def authenticate(self, request: Request) -> tuple[Caller, APIKey]:
        presented = _bearer(request.META.get("HTTP_AUTHORIZATION", ""))
        now = timezone.now()
        seen = _find(presented, now)
        if seen is None:
            raise InvalidKey(f"Incorrect API key provided: {api_keys.hint(presented)}.")
        account = seen.key.account
        bind_contextvars(account=account.name)
        if not account.is_enabled:
            raise QuotaExceeded("This account is disabled. Please ask the operator of this service.")
        return Caller(account, seen.rate_limits), seen.key

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


def account_of(request: Request) -> Account:
    caller: Caller = request.user  # type: ignore[assignment]  # the stubs know Django's users only
    return caller.account


def key_of(request: Request) -> APIKey:
    key: APIKey = request.auth  # type: ignore[assignment]  # the stubs know DRF's tokens only
    return key


def forget() -> None:
    """Empties this process's cache."""
    _seen.clear()


def _bearer(header: str) -> str:
    scheme, _, key = header.partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise InvalidKey(
            "You didn't provide an API key. Send it in an Authorization header using Bearer auth "
            "(i.e. Authorization: Bearer YOUR_KEY)."
        )
    return key.strip()


def _find(presented: str, now: datetime) -> _Seen | None:
    digest = hashlib.sha256(presented.encode("utf-8", "surrogatepass")).digest()
    seen = _seen.get(digest)
    if seen and seen.until > time.monotonic() and (seen.key.expires_at is None or seen.key.expires_at > now):
        return seen
    key = api_keys.find(presented, now=now)
    if key is None:
        _seen.pop(digest, None)
        return None
    if len(_seen) >= CACHE_SIZE:
        _seen.clear()
    seen = _seen[digest] = _Seen(key, rate_limits.limits_of(key.account), time.monotonic() + CACHE_SECONDS)
    _note_use(key, now)
    return seen


def _note_use(key: APIKey, now: datetime) -> None:
    due = Q(last_used_at=None) | Q(last_used_at__lt=now - TOUCH_INTERVAL)
    if key.last_used_at and key.last_used_at >= now - TOUCH_INTERVAL:
        return
    try:
        with side_writes.no_waiting():
            APIKey.objects.filter(due, pk=key.pk).update(last_used_at=now)
    except DatabaseError:
        return  # somebody is writing: the next request will note it
