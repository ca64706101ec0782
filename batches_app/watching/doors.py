"""For who watches over the installation: whether it is ready, and its figures."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_safe
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from batches_app.watching import readiness
from batches_app.watching.metrics import Desk
from batches_app.watching.readiness import State
from config import client_address


@require_safe
def readyz(_request: HttpRequest) -> HttpResponse:
    """200 for `ready` and `degraded`, 503 for `not_ready`."""
    found = readiness.watch.readiness()
    status = 503 if found.state is State.NOT_READY else 200
    body = {"status": found.state, "checks": dict(found.checks)}
    return JsonResponse(body, status=status, headers={"Cache-Control": "no-store"})


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """For METRICS_ALLOW and this machine: charges, tokens and models are nothing for who merely reaches the port. 403,
    for that there is such an address is no secret, and an operator can tell it from a typing error."""
    if not may_read(request):
        return HttpResponse("Only for this machine, and for those in METRICS_ALLOW.\n", "text/plain", status=403)
    registry = CollectorRegistry()
    registry.register(Desk())
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return HttpResponse(encode(registry), content_type=content_type)


def may_read(request: HttpRequest) -> bool:
    if not settings.TRUSTED_PROXIES and _is_forwarded(request):
        return False  # by a proxy on this machine, perhaps: then everybody would seem to be on it
    address = _address(client_address.of(request))
    return address is not None and (
        address.is_loopback or any(address in ip_network(network) for network in settings.METRICS_ALLOW)
    )


def _is_forwarded(request: HttpRequest) -> bool:
    return any(name in request.headers for name in ("X-Forwarded-For", "Forwarded", "X-Real-IP", "Via"))


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
