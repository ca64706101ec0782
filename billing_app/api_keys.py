"""API keys: `sk-` and 256 random bits. Only a hash is kept; random bits need no salt and no slow hash."""

import hashlib
import hmac
import secrets
from datetime import datetime
from decimal import Decimal

from django.db.models import Q

from billing_app.models import Account, APIKey


def hint(key: str) -> str:
    """What may be shown of a key: at most its first and last four characters (401 of the spec)."""
    return f"{key[:4]}…{key[-4:]}" if len(key) > 12 else "…"


def issue(
    account: Account, *, name: str = "", expires_at: datetime | None = None, monthly_limit: Decimal | None = None
) -> tuple[APIKey, str]:
    """A new key. The second value is the key itself, which cannot be had again."""
    key = f"sk-{secrets.token_urlsafe(32)}"
    facts = {"name": name, "expires_at": expires_at, "monthly_limit": monthly_limit}
    return APIKey.objects.create(account=account, key_hash=_hash(key), hint=hint(key), **facts), key


def find(key: str, *, now: datetime) -> APIKey | None:
    """The key's row with its account, unless it is unknown, revoked or expired."""
    valid = Q(revoked_at=None) & (Q(expires_at=None) | Q(expires_at__gt=now))
    presented = _hash(key)
    row = APIKey.objects.select_related("account").filter(valid, key_hash=presented).first()
    # Once more, byte by byte and in constant time: what a database takes for equal is a matter of its collation.
    return row if row and hmac.compare_digest(row.key_hash, presented) else None


def revoke(key: APIKey, *, now: datetime) -> bool:
    """False if it was revoked before."""
    return APIKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=now) == 1


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
