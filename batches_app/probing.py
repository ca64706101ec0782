"""What an operator gets who asks whether a model's upstream is there."""

from typing import NamedTuple

from django.conf import settings

from batches_app import clock, connecting, routing
from batches_app.connecting import KeyMissing
from batches_app.models import ServedModel
from batches_app.upstream.asking import ask_for_models
from batches_app.upstream.client import Answer, Limits
from config.addresses import Policy

LIMITS = Limits(connect_timeout=5, silence_timeout=10, total_timeout=15, max_answer_bytes=4 * 1024 * 1024)


class Finding(NamedTuple):
    succeeded: bool
    note: str
    milliseconds: int


def probe(model_id: int) -> None:
    """Asks once for each time that an operator asked, however often the job is delivered."""
    model = routing.unanswered_probes().filter(pk=model_id).first()
    if model is None:
        return
    found = _ask(model)
    # An operator who asked again meanwhile, perhaps having mended something, wants another answer than this one.
    asked = ServedModel.objects.filter(pk=model_id, probe_asked_at=model.probe_asked_at)
    asked.update(
        probed_at=clock.now(),
        probe_succeeded=found.succeeded,
        probe_note=found.note[:500],
        probe_ms=found.milliseconds,
    )


def _ask(model: ServedModel) -> Finding:
    if model.is_builtin:
        return Finding(True, "Built in: it needs no upstream.", 0)
    try:
        policy = Policy(settings.UPSTREAM_ADDRESSES)
        return _found(ask_for_models(model.upstream_url, connecting.api_key(model), LIMITS, policy))
    except KeyMissing as error:
        return Finding(False, str(error), 0)


def _found(answer: Answer) -> Finding:
    # Of the body nothing is told: some upstreams repeat the key that they refuse.
    milliseconds = round(answer.seconds * 1000)
    if 200 <= answer.status < 300:
        return Finding(True, f"{answer.status} in {milliseconds:,} ms", milliseconds)
    return Finding(False, answer.message, milliseconds)
