from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from batches_app import queue, routing
from batches_app.models import Lane, ServedModel
from batches_app.routing import BuiltinModel, Route, cut_lanes, serve
from billing_app import prices
from billing_app.models import Price
from billing_app.pricing import Rates

pytestmark = pytest.mark.django_db
NOW = datetime(2030, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
ROUTE = Route(upstream_url="http://vllm:8000/v1", endpoints=["/v1/chat/completions"], max_concurrency=10)
RATES = Rates(Decimal("0.15"), Decimal("0.60"), Decimal("0.5"))


def permits(model: ServedModel) -> list[int]:
    return list(model.lanes.order_by("number").values_list("permits", flat=True))


def test_a_new_model_has_a_price_and_lanes() -> None:
    model, changed = serve("m", ROUTE, RATES, now=NOW)
    price = prices.current("m", NOW)
    assert changed
    assert price is not None
    assert price.rates == RATES
    assert permits(model) == [10]


def test_the_same_again_changes_nothing() -> None:
    serve("m", ROUTE, RATES, now=NOW)
    before = list(ServedModel.objects.values()), list(Price.objects.values()), list(Lane.objects.values())
    same = Rates(Decimal("0.150"), Decimal("0.6"), Decimal("0.50"))
    assert serve("m", ROUTE, same, now=LATER)[1] is False
    assert before == (list(ServedModel.objects.values()), list(Price.objects.values()), list(Lane.objects.values()))


def test_a_new_price_is_a_new_version_and_the_old_one_stays_for_what_came_before() -> None:
    serve("m", ROUTE, RATES, now=NOW)
    dearer = Rates(Decimal("0.30"), Decimal("0.60"), Decimal("0.5"))
    assert serve("m", ROUTE, dearer, now=LATER)[1] is True
    before, after = prices.current("m", LATER - timedelta(seconds=1)), prices.current("m", LATER)
    assert before is not None
    assert after is not None
    assert (before.rates, after.rates) == (RATES, dearer)


def test_a_price_that_went_back_is_a_version_too() -> None:
    serve("m", ROUTE, RATES, now=NOW)
    serve("m", ROUTE, Rates(Decimal(1), Decimal(1), Decimal(1)), now=LATER)
    serve("m", ROUTE, RATES, now=LATER + timedelta(hours=1))
    assert Price.objects.filter(model_name="m").count() == 3


def test_there_is_no_price_before_the_first_and_none_of_another_model() -> None:
    serve("m", ROUTE, RATES, now=NOW)
    assert prices.current("m", NOW - timedelta(seconds=1)) is None
    assert prices.current("other", LATER) is None


def test_a_changed_route_makes_no_new_price() -> None:
    serve("m", ROUTE, RATES, now=NOW)
    elsewhere = Route("http://other/v1", ["/v1/completions"], 10, "M", "KEY", 4096, is_enabled=False)
    model, changed = serve("m", elsewhere, RATES, now=LATER)
    model.refresh_from_db()
    assert changed
    assert (model.upstream_url, model.endpoints, model.upstream_model) == ("http://other/v1", ["/v1/completions"], "M")
    assert (model.upstream_key_env, model.context_tokens, model.is_enabled) == ("KEY", 4096, False)
    assert Price.objects.filter(model_name="m").count() == 1


def test_the_built_in_model_cannot_be_redefined() -> None:
    before = ServedModel.objects.values().get(name="batch-test-model")
    with pytest.raises(BuiltinModel):
        serve("batch-test-model", ROUTE, RATES, now=NOW)
    assert ServedModel.objects.values().get(name="batch-test-model") == before


def test_the_built_in_model_is_there_from_the_start_and_free() -> None:
    model = ServedModel.objects.get(name="batch-test-model")
    price = prices.current(model.name, datetime.now(UTC))
    assert (model.is_builtin, model.endpoints, permits(model)) == (True, ["/v1/chat/ds-test"], [64])
    assert price is not None
    assert price.rates == Rates(Decimal(0), Decimal(0), Decimal("0.5"))


def test_all_or_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(model: ServedModel) -> None:
        raise RuntimeError

    monkeypatch.setattr(routing, "cut_lanes", fail)
    with pytest.raises(RuntimeError):
        serve("m", ROUTE, RATES, now=NOW)
    assert not ServedModel.objects.filter(name="m").exists()
    assert prices.current("m", LATER) is None


def test_lanes_that_are_not_needed_any_more_lose_their_permits_and_keep_their_lease(settings: Any) -> None:
    settings.LANE_PERMITS = 4
    model, _ = serve("m", ROUTE, RATES, now=NOW)
    assert permits(model) == [4, 3, 3]
    model.lanes.update(token=7, owner="host:1", lease_expires_at=NOW, in_flight=3)
    leases = list(model.lanes.values("id", "token", "owner", "lease_expires_at", "in_flight"))
    ServedModel.objects.filter(pk=model.pk).update(max_concurrency=5)
    model.refresh_from_db()
    cut_lanes(model)
    assert permits(model) == [3, 2, 0]
    assert list(model.lanes.values("id", "token", "owner", "lease_expires_at", "in_flight")) == leases


@pytest.mark.parametrize("most", [1, 4, 7, 256])
def test_permits_add_up_as_even_as_can_be_whatever_they_were_before(settings: Any, most: int) -> None:
    settings.LANE_PERMITS = most
    model, _ = serve("m", ROUTE, RATES, now=NOW)
    for concurrency in (1, 23, 8, 7, 9, 1):
        model.max_concurrency = concurrency
        cut_lanes(model)
        in_use = [number for number in permits(model) if number]
        assert sum(in_use) == concurrency
        assert max(in_use) <= most
        assert max(in_use) - min(in_use) <= 1
        assert len(in_use) == -(-concurrency // most)


def _state(model: ServedModel) -> datetime | None:
    return ServedModel.objects.get(pk=model.pk).paused_at


def test_a_model_is_paused_once_and_resumed_once() -> None:
    """Of two operators who do the same, the second changes nothing, and is told so."""
    model, _ = serve("m", ROUTE, RATES, now=NOW)
    assert [routing.pause(model, by="olga", reason="upgrade", now=moment) for moment in (NOW, LATER)] == [True, False]
    assert _state(model) == NOW
    assert [routing.resume(model, now=LATER) for _ in range(2)] == [True, False]
    assert _state(model) is None
    model.refresh_from_db()
    assert (model.paused_by, model.paused_reason) == ("", "")


def test_a_model_stays_paused_when_its_route_is_set_again() -> None:
    model, _ = serve("m", ROUTE, RATES, now=NOW)
    routing.pause(model, by="olga", reason="upgrade", now=NOW)
    serve("m", ROUTE, RATES, now=LATER)
    assert _state(model) == NOW


def test_asking_for_a_probe_rings_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    rung: list[object] = []
    monkeypatch.setattr(queue, "ring", lambda job, **facts: rung.append((job, facts)))
    model, _ = serve("m", ROUTE, RATES, now=NOW)
    assert not routing.unanswered_probes().exists()
    assert routing.ask_probe(model, now=NOW)
    assert rung == [(queue.Job.PROBE, {"once_per": str(model.pk), "model_id": model.pk})]
    assert routing.unanswered_probes().get() == model
    ServedModel.objects.filter(pk=model.pk).update(probed_at=LATER)
    assert not routing.unanswered_probes().exists()
    routing.ask_probe(model, now=LATER + timedelta(seconds=1))
    assert routing.unanswered_probes().get() == model
