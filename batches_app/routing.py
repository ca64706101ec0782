"""Which upstream serves which model, and the lanes on which its requests travel."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from urllib.parse import urlsplit

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q, QuerySet

from batches_app import lanes, queue
from batches_app.models import Lane, ServedModel
from batches_app.models.routing import UPSTREAM_ENDPOINTS
from billing_app import prices
from billing_app.pricing import Rates
from config.addresses import Policy

MOST_CONCURRENCY = 100_000  # each lane of it is a row: a slip of the finger must not make millions
VARIABLE_NAME = r"[A-Za-z_][A-Za-z0-9_]{0,99}|"


class BuiltinModel(Exception):
    """The test model is built in and cannot be given an upstream."""


@dataclass(frozen=True, slots=True)
class Route:
    upstream_url: str
    endpoints: Sequence[str]
    max_concurrency: int
    upstream_model: str = ""
    upstream_key_env: str = ""
    context_tokens: int | None = None
    max_output_tokens: int | None = None
    is_enabled: bool = True


def serve(name: str, route: Route, rates: Rates, *, now: datetime) -> tuple[ServedModel, bool]:
    """Creates or changes a model with its price and lanes. False: all was so already."""
    with transaction.atomic():
        model = ServedModel.objects.select_for_update().filter(name=name).first()
        if model is not None and model.is_builtin:
            raise BuiltinModel(name)
        wanted = asdict(route) | {"endpoints": list(route.endpoints)}
        changed = model is None or any(getattr(model, key) != value for key, value in wanted.items())
        model, _ = ServedModel.objects.update_or_create(name=name, defaults=wanted)
        _, repriced = prices.set_price(name, rates, now)
        cut_lanes(model)
    return model, changed or repriced


def cut_lanes(model: ServedModel) -> None:
    """Lanes whose permits add up to the model's concurrency, as even as can be. A lane that is not needed any more
    keeps its row and loses its permits, so that whoever holds it drains."""
    count = -(-model.max_concurrency // settings.LANE_PERMITS)
    share, rest = divmod(model.max_concurrency, count)
    for number in range(count):
        permits = share + (number < rest)
        Lane.objects.update_or_create(model=model, number=number, defaults={"permits": permits})
    Lane.objects.filter(model=model, number__gte=count).update(permits=0)


def pause(model: ServedModel, *, by: str, reason: str, now: datetime) -> bool:
    """From now on nothing is sent to it; what is in flight finishes. Batches are still accepted, and wait. False: it
    was paused already."""
    running = ServedModel.objects.filter(pk=model.pk, paused_at=None)
    return running.update(paused_at=now, paused_by=by, paused_reason=reason) == 1


def resume(model: ServedModel, *, now: datetime) -> bool:
    """False: it was not paused."""
    paused = ServedModel.objects.filter(pk=model.pk, paused_at__lte=now)
    with transaction.atomic():
        resumed = paused.update(paused_at=None, paused_by="", paused_reason="") == 1
        lanes.ring_lanes(model.pk)
    return resumed


def ask_probe(model: ServedModel, *, now: datetime) -> bool:
    """Asks whether the upstream is there; a lane that waits for it tries at once. False: the same moment was asked
    for already."""
    with transaction.atomic():
        later = Q(probe_asked_at=None) | Q(probe_asked_at__lt=now)
        asked = ServedModel.objects.filter(later, pk=model.pk).update(probe_asked_at=now) == 1
        ring_probe(model)
    return asked


def ring_probe(model: ServedModel) -> queue.Bell:
    return queue.ring(queue.Job.PROBE, once_per=str(model.pk), model_id=model.pk)


def unanswered_probes() -> "QuerySet[ServedModel]":
    return ServedModel.objects.filter(Q(probed_at=None) | Q(probed_at__lt=F("probe_asked_at"))).exclude(
        probe_asked_at=None
    )


def objection_to(url: str) -> str | None:
    """Why nothing would be sent to this base URL. A host's name passes: it is judged whenever it is connected to."""
    return Policy(settings.UPSTREAM_ADDRESSES).objection_to_url(url)


def is_base_url(url: str) -> bool:
    """The endpoint is appended to it."""
    try:
        parts = urlsplit(url)
        # A password in it would be shown to everybody who sees the model.
        has_host = bool(parts.hostname) and parts.port != 0 and parts.username is None and _is_plain(url)
    except ValueError:  # a port that is no number, a bracket that stays open
        return False
    is_base = not parts.query and not parts.fragment and not parts.path.rstrip("/").endswith(UPSTREAM_ENDPOINTS)
    return parts.scheme in ("http", "https") and has_host and is_base and len(url) <= 500


def _is_plain(url: str) -> bool:
    """What urlsplit and libcurl read alike: urlsplit drops line breaks, and a backslash ends no host for it."""
    return url.isprintable() and not {" ", "\\"} & set(url)
