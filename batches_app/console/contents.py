"""Looks at what tenants send and get: each is in the audit log."""

from django.core.signing import BadSignature, TimestampSigner
from django.http import HttpRequest

from batches_app.models import Batch
from billing_app import audit

READ = "batches_app.read_contents"
_OPEN = 12 * 3600  # seconds that a page may stay open before its polls count as another look
_signer = TimestampSigner(salt="batches_app.console.contents")


def viewed(request: HttpRequest, batch: Batch, what: str) -> None:
    """`what`: nothing of the contents themselves, for who has no right to these may read the audit log."""
    _record(request, "contents.viewed", batch, what)


def downloaded(request: HttpRequest, batch: Batch, what: str) -> None:
    _record(request, "contents.downloaded", batch, what)


def viewed_live(request: HttpRequest, batch: Batch, what: str) -> str:
    """Of a page that polls: records the first look alone. Returns what its polls are to bring as `seen`."""
    look = f"{request.user.pk}:{batch.pk}"
    try:
        known = _signer.unsign(request.GET.get("seen", ""), max_age=_OPEN) == look
    except BadSignature:
        known = False
    if not known:
        viewed(request, batch, what)
    return _signer.sign(look)


def _record(request: HttpRequest, action: str, batch: Batch, what: str) -> None:
    changes = {"contents": (None, what)}
    audit.record(**audit.by(request), action=action, target=batch, account=batch.account.name, changes=changes)
