"""What an operator learns who asks whether an upstream is there."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from batches_app import probing, routing
from batches_app.models import ServedModel
from batches_app.upstream.client import Limits
from tests.factories import ServedModelFactory
from tests.fake_upstream import FakeUpstream

pytestmark = pytest.mark.django_db
KEY = "sk-very-secret-0123456789"


def _probed(**columns: object) -> ServedModel:
    model: ServedModel = ServedModelFactory(**columns)
    routing.ask_probe(model, now=timezone.now())
    probing.probe(model.pk)
    model.refresh_from_db()
    assert model.probed_at is not None
    assert not routing.unanswered_probes().exists()
    return model


def test_an_upstream_that_answers_is_there(upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_KEY", f"{KEY}\n")  # as it is read from a file
    upstream.control.set(require_key=KEY)
    model = _probed(upstream_url=upstream.url, upstream_key_env="MODEL_KEY")
    assert model.probe_succeeded
    assert model.probe_note == f"200 in {model.probe_ms} ms"
    seen = upstream.control.seen()["last"]
    assert (seen["path"], seen["body"]) == ("/v1/models", "")


def test_a_base_address_without_v1_is_asked_at_the_same_place(upstream: FakeUpstream) -> None:
    assert _probed(upstream_url=upstream.url.removesuffix("/v1")).probe_succeeded


def test_a_key_that_is_refused_is_said_but_not_shown(upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some upstreams repeat the key that they refuse."""
    monkeypatch.setenv("MODEL_KEY", KEY)
    upstream.control.set(status=401, body=f"Wrong key: {KEY}")
    model = _probed(upstream_url=upstream.url, upstream_key_env="MODEL_KEY")
    assert model.probe_succeeded is False
    assert model.probe_note == "The upstream answered 401: it does not accept the API key."


def test_an_upstream_that_nobody_runs_is_not_there() -> None:
    model = _probed(upstream_url="http://127.0.0.1:9/v1")
    assert model.probe_succeeded is False
    assert model.probe_note.startswith("The upstream could not be reached: ")


def test_a_key_that_is_not_set_is_said_before_anything_is_sent(upstream: FakeUpstream) -> None:
    model = _probed(upstream_url=upstream.url, upstream_key_env="NOT_SET_ANYWHERE")
    assert model.probe_note == "The environment variable NOT_SET_ANYWHERE is not set."
    assert not upstream.control.seen()["connections"]


def test_a_redirect_is_not_followed(upstream: FakeUpstream) -> None:
    """It could lead into the inner network, with the key in its headers."""
    with FakeUpstream() as inner:
        upstream.control.set(status=302, headers={"Location": f"{inner.url}/models"})
        model = _probed(upstream_url=upstream.url)
        assert not inner.control.seen()["connections"]
    assert model.probe_succeeded is False
    assert "a redirect, which is not followed" in model.probe_note


def test_an_address_that_is_not_allowed_is_said_and_not_connected_to(upstream: FakeUpstream, settings: Any) -> None:
    settings.UPSTREAM_ADDRESSES = ["public", "private"]
    model = _probed(upstream_url=upstream.url.replace("127.0.0.1", "localhost"))
    assert model.probe_succeeded is False
    assert "is loopback, and UPSTREAM_ADDRESSES allows only public, private." in model.probe_note
    assert not upstream.control.seen()["connections"]


@pytest.mark.parametrize(
    ("fault", "limits", "said"),
    [
        ("hang", Limits(total_timeout=1), "did not answer in time"),
        ("huge", Limits(max_answer_bytes=100_000), "is larger than"),
    ],
)
def test_a_probe_waits_and_reads_only_so_much(
    upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch, fault: str, limits: Limits, said: str
) -> None:
    monkeypatch.setattr(probing, "LIMITS", limits)
    upstream.control.set(fault=fault)
    model = _probed(upstream_url=upstream.url)
    assert model.probe_succeeded is False
    assert said in model.probe_note


def test_the_built_in_model_needs_no_upstream() -> None:
    model = ServedModel.objects.get(upstream_url=ServedModel.BUILTIN)
    routing.ask_probe(model, now=timezone.now())
    probing.probe(model.pk)
    model.refresh_from_db()
    assert (model.probe_succeeded, model.probe_ms) == (True, 0)


def test_a_probe_that_is_delivered_twice_asks_once(upstream: FakeUpstream) -> None:
    model = _probed(upstream_url=upstream.url)
    probing.probe(model.pk)
    assert upstream.control.seen()["connections"] == 1
    probing.probe(0)  # the model is gone


def test_who_asks_again_meanwhile_gets_an_answer_of_his_own(upstream: FakeUpstream) -> None:
    """He may have mended something: the finding that comes in for the first question is not his."""
    model = ServedModelFactory(upstream_url=upstream.url)
    routing.ask_probe(model, now=timezone.now())
    asked_again = timezone.now() + timedelta(seconds=1)

    def ask(asked: ServedModel) -> probing.Finding:
        routing.ask_probe(asked, now=asked_again)
        return probing.Finding(False, "old", 1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probing, "_ask", ask)
        probing.probe(model.pk)
    model.refresh_from_db()
    assert (model.probed_at, model.probe_note) == (None, "")
    assert routing.unanswered_probes().get() == model
    probing.probe(model.pk)
    model.refresh_from_db()
    assert model.probe_succeeded
