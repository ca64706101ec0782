"""What it takes to talk to a model's upstream: its key, its limits, its transport."""

import logging
import os

from django.conf import settings

from batches_app.models import ServedModel
from batches_app.upstream.client import CurlClient, Limits, Transport
from batches_app.upstream.test_model import EchoClient
from config.addresses import Policy

log = logging.getLogger(__name__)


class KeyMissing(Exception):
    """The environment variable that should hold the upstream's key is not set. The argument says so."""


def api_key(model: ServedModel) -> str | None:
    """None for an upstream that asks for none. Raises KeyMissing."""
    if not model.upstream_key_env:
        return None
    key = os.environ.get(model.upstream_key_env)
    if not key:
        raise KeyMissing(f"The environment variable {model.upstream_key_env} is not set.")
    return key


def transport(model: ServedModel) -> Transport:
    if model.is_builtin:
        return EchoClient()
    try:
        key = api_key(model)
    except KeyMissing as error:
        log.error("Model %s: %s", model.name, error)
        key = None  # the upstream will refuse, and operators see why the lane waits
    limits = Limits(
        connect_timeout=settings.UPSTREAM_CONNECT_TIMEOUT,
        silence_timeout=settings.UPSTREAM_SILENCE_TIMEOUT,
        total_timeout=settings.UPSTREAM_TOTAL_TIMEOUT,
        max_answer_bytes=settings.MAX_ANSWER_BYTES,
    )
    policy = Policy(settings.UPSTREAM_ADDRESSES)
    return CurlClient(url=model.upstream_url, api_key=key, slots=settings.LANE_PERMITS, limits=limits, policy=policy)
