"""Models in the console: what is said of each, and what operators do to it."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from batches_app.models import LaneMinute, ServedModel
from billing_app.models import AuditEntry
from tests.factories import BatchFactory, LaneFactory, PriceFactory, ServedModelFactory
from tests.operators import signed_in

pytestmark = pytest.mark.django_db
PAGE = "/console/models"


def shown(client: Client, query: str = "") -> str:
    answer = client.get(PAGE + query)
    assert answer.status_code == 200
    return answer.content.decode()


def act(client: Client, model: ServedModel, verb: str, **form: Any) -> Any:
    return client.post(f"{PAGE}/{model.pk}/{verb}", form, follow=True)


@pytest.fixture
def model() -> ServedModel:
    return ServedModelFactory(name="qwen")  # type: ignore[no-any-return]


def reason(model: ServedModel, text: str = "new cards") -> dict[str, str]:
    return {f"model-{model.pk}-reason": text}


def test_a_model_shows_how_it_is_and_what_it_has_to_do(model: ServedModel) -> None:
    PriceFactory(model_name="qwen")
    lane = LaneFactory(
        model=model,
        permits=32,
        owner="x",
        limit=16,
        in_flight=9,
        lease_expires_at=timezone.now() + timedelta(minutes=1),
        pause_reason="429 Too Many Requests",
    )
    LaneMinute.objects.create(
        model=model,
        lane=lane,
        lane_token=1,
        minute=timezone.now() - timedelta(minutes=3),
        answers=90,
        faults=9,
        failed=4,
    )
    BatchFactory(model=model, total=1500, completed=200)
    page = shown(signed_in("viewer"))
    for text in (
        "Throttled</span>",
        "429 Too Many Requests",
        "9 in flight, 16 of 32 allowed now",
        "10 %",
        "1,300 requests left",
        "?status=under_way&amp;model=qwen",
        "0.15 in, 0.6 out (USD per million tokens); batches pay \N{MULTIPLICATION SIGN} 0.5",
        "http://127.0.0.1:9/v1",
        "Requests in each minute of the last hour; most: 4",
    ):
        assert text in page, text


def test_a_model_without_a_price_says_what_follows(model: ServedModel) -> None:
    assert "Its batches cannot be billed, so they are refused." in shown(signed_in("viewer"))


def test_an_address_with_a_password_is_shown_without() -> None:
    """Such rows are older than the rule that refuses them."""
    ServedModelFactory(upstream_url="http://user:secret@host:8000/v1")
    page = shown(signed_in("viewer"))
    assert "http://host:8000/v1" in page
    assert "secret" not in page


def test_the_list_shows_only_models_of_the_state_that_is_asked_for(model: ServedModel) -> None:
    ServedModelFactory(name="kimi", paused_at=timezone.now())
    page = shown(signed_in("viewer"), "?state=paused")
    assert "kimi" in page
    assert "qwen" not in page
    assert "No model has the state “Down” now" in shown(signed_in("viewer"), "?state=down")


def test_a_state_that_does_not_exist_is_an_error_that_is_shown(model: ServedModel) -> None:
    answer = signed_in("viewer").get(f"{PAGE}?state=<b>")
    assert answer.status_code == 400
    page = answer.content.decode()
    assert 'There is no state “<bdi class="shown">&lt;b&gt;</bdi>”' in page
    assert "qwen" in page


def test_pausing_asks_why_and_is_in_the_audit_trail(model: ServedModel) -> None:
    operator = signed_in("operator")
    answer = act(operator, model, "pause", **reason(model))
    assert "qwen is paused: nothing more is sent to it." in answer.content.decode()
    assert ServedModel.objects.get(pk=model.pk).paused_at is not None
    assert "olga · new cards" in shown(signed_in("viewer"))
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.actor, entry.reason, entry.address) == (
        "model.paused",
        "olga",
        "new cards",
        "127.0.0.1",
    )
    assert entry.target == f"Served model {model.pk}: qwen"
    assert entry.changes["paused_at"][0] is None
    again = act(operator, model, "pause", **reason(model))
    assert "qwen was paused already." in again.content.decode()
    assert AuditEntry.objects.count() == 1


@pytest.mark.parametrize("text", ["", "  ", "x" * 501])
def test_without_a_reason_nothing_is_paused_and_the_page_says_why(model: ServedModel, text: str) -> None:
    answer = act(signed_in("operator"), model, "pause", **reason(model, text))
    assert answer.status_code == 400
    assert 'class="errorlist"' in answer.content.decode()
    assert '<details class="disclosure" open>' in answer.content.decode()
    assert ServedModel.objects.get(pk=model.pk).paused_at is None
    assert not AuditEntry.objects.exists()


def test_resuming_is_in_the_audit_trail_once(model: ServedModel) -> None:
    operator, since = signed_in("operator"), timezone.now() - timedelta(hours=1)
    ServedModel.objects.update(paused_at=since)
    assert "qwen is resumed: its batches go on." in act(operator, model, "resume").content.decode()
    assert ServedModel.objects.get(pk=model.pk).paused_at is None
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.changes) == (
        "model.resumed",
        {"paused_at": [since.isoformat(timespec="seconds"), None]},
    )
    assert "qwen was not paused." in act(operator, model, "resume").content.decode()
    assert AuditEntry.objects.count() == 1


def test_a_probe_is_asked_for_and_its_answer_appears(model: ServedModel) -> None:
    operator = signed_in("operator")
    assert "under way</span>" in act(operator, model, "probe").content.decode()
    assert AuditEntry.objects.get().action == "model.probed"
    ServedModel.objects.filter(pk=model.pk).update(
        probed_at=timezone.now(), probe_succeeded=False, probe_note="connection refused"
    )
    page = shown(operator)
    assert "failed</span>" in page
    assert "connection refused" in page
    assert "under way</span>" not in page
    assert "under way</span>" in act(operator, model, "probe").content.decode()


@pytest.mark.parametrize("verb", ["pause", "resume", "probe"])
def test_who_may_only_look_is_refused_and_sees_no_button(model: ServedModel, verb: str) -> None:
    ServedModel.objects.update(paused_at=timezone.now() if verb == "resume" else None)
    before = ServedModel.objects.values().get(pk=model.pk)
    for role in ("viewer", "billing"):
        client = signed_in(role, name=role)
        assert act(client, model, verb, **reason(model)).status_code == 403
        assert f"{PAGE}/{model.pk}/{verb}" not in shown(client)
    assert ServedModel.objects.values().get(pk=model.pk) == before
    assert f"{PAGE}/{model.pk}/{verb}" in shown(signed_in("operator"))


@pytest.mark.parametrize("verb", ["pause", "resume", "probe"])
def test_looking_at_an_action_does_nothing(model: ServedModel, verb: str) -> None:
    assert signed_in().get(f"{PAGE}/{model.pk}/{verb}").status_code == 405
    assert act(signed_in(), ServedModel(pk=999), verb, **reason(ServedModel(pk=999))).status_code == 404


def test_the_first_model_is_asked_for() -> None:
    ServedModel.objects.all().delete()
    assert "No model yet" in shown(signed_in("viewer"))


def test_a_live_part_is_asked_for_alone(model: ServedModel) -> None:
    answer = signed_in("viewer").get(f"{PAGE}?state=idle", headers={"HX-Request": "true"}).content.decode()
    assert answer.startswith('<div id="models" class="stack" data-live="/console/models?state=idle">')
    assert "<html" not in answer


def test_any_number_of_models_takes_the_same_queries(django_assert_max_num_queries: Any) -> None:
    for _ in range(5):
        model = ServedModelFactory()
        PriceFactory(model_name=model.name)
        LaneFactory(model=model)
        BatchFactory(model=model)
    client = signed_in("operator")
    with django_assert_max_num_queries(12):
        shown(client)


def test_text_of_upstreams_is_harmless(model: ServedModel) -> None:
    evil = "<script>alert(1)</script>\u202e"
    LaneFactory(
        model=model, owner="x", limit=8, lease_expires_at=timezone.now() + timedelta(minutes=1), pause_reason=evil
    )
    ServedModel.objects.update(probed_at=timezone.now(), probe_succeeded=False, probe_note=evil)
    page = shown(signed_in())
    assert "<script>alert" not in page
    assert "\u202e" not in page
