"""Where a request comes from: for the lockout and the audit log."""

from ipaddress import ip_address

from django.conf import settings
from django.http import HttpRequest


def of(request: HttpRequest) -> str:
    """Each proxy adds to X-Forwarded-For whom it was asked by, and what stands before that is the client's to invent:
    so the client is the TRUSTED_PROXIES-th from the end. Not ipware's count, which takes the first of one more."""
    peer = request.META.get("REMOTE_ADDR", "")
    hops = request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")
    proxies = settings.TRUSTED_PROXIES
    return (address_in(hops[-proxies]) or peer) if 0 < proxies <= len(hops) else peer


def address_in(text: str) -> str:
    """Without the port, where there is one: 192.0.2.1:4711, [2001:db8::1]:4711. Empty: it is no address."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ip_address(text))
    except ValueError:
        return ""
