"""Models in the admin."""

from decimal import Decimal
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from batches_app import routing
from batches_app.models import ServedModel
from billing_app.models import AuditEntry, Price
from tests.factories import PriceFactory, ServedModelFactory
from tests.operators import form_on, signed_in, url

pytestmark = pytest.mark.django_db
CHAT, EMBEDDINGS = "/v1/chat/completions", "/v1/embeddings"


def add(client: Client, **given: Any) -> Any:
    path = url(ServedModel, "add/")
    known = {"name": "m", "endpoints": [CHAT], "upstream_url": "http://x/v1", "max_concurrency": "32"}
    return client.post(path, form_on(client.get(path), **(known | given)))


def change(client: Client, model: ServedModel, **given: Any) -> Any:
    path = url(ServedModel, f"{model.pk}/change/")
    return client.post(path, form_on(client.get(path), **given))


def permits(model: ServedModel) -> int:
    return sum(lane.permits for lane in model.lanes.all())


def test_a_model_gets_lanes_and_another_concurrency_cuts_them_anew() -> None:
    PriceFactory(model_name="m")
    operator = signed_in()
    assert add(operator, endpoints=[EMBEDDINGS, CHAT]).status_code == 302
    model = ServedModel.objects.get(name="m")
    assert (model.endpoints, permits(model)) == ([CHAT, EMBEDDINGS], 32)
    assert change(operator, model, max_concurrency="600", why="new cards").status_code == 302
    assert permits(model) == 600
    entry = AuditEntry.objects.first()
    assert entry is not None
    assert (entry.action, entry.reason, entry.changes) == (
        "model.changed",
        "new cards",
        {"max_concurrency": [32, 600]},
    )


def test_lanes_are_left_alone_by_other_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    PriceFactory(model_name="m")
    model, operator = ServedModelFactory(name="m"), signed_in()
    monkeypatch.setattr(routing, "cut_lanes", lambda model: pytest.fail("the lanes were cut"))
    assert change(operator, model, context_tokens="8192").status_code == 302


def test_a_model_without_a_price_is_not_enabled() -> None:
    operator = signed_in()
    answer = add(operator)
    assert "m has no price in force" in answer.content.decode()
    assert '<a href="/admin/billing_app/price/add/?model_name=m">Add a price</a>' in answer.content.decode()
    assert add(operator, is_enabled=None).status_code == 302
    model = ServedModel.objects.get(name="m")
    operator.post(url(ServedModel), {"action": "enable", "_selected_action": [model.pk]})
    assert not ServedModel.objects.get(name="m").is_enabled
    PriceFactory(model_name="m", currency="EUR")
    assert "no price in force" in change(operator, model, is_enabled="on").content.decode()
    PriceFactory(model_name="m")
    assert change(operator, model, is_enabled="on").status_code == 302


def test_models_are_disabled_and_enabled_with_an_entry_for_each() -> None:
    PriceFactory(model_name="m")
    model, operator = ServedModelFactory(name="m"), signed_in("operator")
    for action, enabled in (("disable", False), ("disable", False), ("enable", True)):
        operator.post(url(ServedModel), {"action": action, "_selected_action": [model.pk]})
        assert ServedModel.objects.get(name="m").is_enabled is enabled
    assert [entry.changes for entry in AuditEntry.objects.order_by("id")] == [
        {"is_enabled": [True, False]},
        {"is_enabled": [False, True]},
    ]


def test_a_model_that_is_paused_says_so_and_where_it_is_resumed() -> None:
    model, operator = ServedModelFactory(paused_at=timezone.now()), signed_in("operator")
    ServedModelFactory(name="kimi-k2")
    listed = operator.get(url(ServedModel), {"state": "paused"}).content.decode()
    assert "paused</span>" in listed
    assert "kimi-k2" not in listed
    assert (
        f'"/console/models#model-{model.pk}"' in operator.get(url(ServedModel, f"{model.pk}/change/")).content.decode()
    )


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("upstream_url", "vllm:8000", "must look like http://HOST:PORT/v1"),
        ("upstream_url", "builtin", "must look like http://HOST:PORT/v1"),
        ("upstream_url", "http://user:password@vllm:8000/v1", "must look like http://HOST:PORT/v1"),
        ("upstream_url", "http://[fd00:ec2::254]/v1", "it is the metadata service of a cloud"),
        ("upstream_key_env", "sk-secret-itself", "name of an environment variable"),
        ("max_concurrency", "0", "greater than or equal to 1"),
        ("max_concurrency", "100001", "less than or equal to 100000"),
        ("endpoints", ["/v1/images"], "Select a valid choice"),
        ("endpoints", None, "Choose at least one"),
    ],
)
def test_what_cannot_be_served_is_refused(field: str, value: Any, sentence: str) -> None:
    PriceFactory(model_name="m")
    assert sentence in add(signed_in(), **{field: value}).content.decode()
    assert not ServedModel.objects.filter(name="m").exists()


def test_the_built_in_model_keeps_its_upstream() -> None:
    builtin, operator = ServedModel.objects.get(name="batch-test-model"), signed_in()
    tampered = {"upstream_url": "http://evil/v1", "endpoints": [CHAT], "name": "x", "max_concurrency": "8"}
    assert change(operator, builtin, **tampered).status_code == 302
    now = ServedModel.objects.get(pk=builtin.pk)
    assert (now.name, now.is_builtin, now.endpoints) == ("batch-test-model", True, builtin.endpoints)
    assert now.max_concurrency == 8


def test_an_operator_changes_a_model_and_not_where_its_requests_and_its_key_go() -> None:
    """Address and key variable together would send any secret of the workers' environment anywhere."""
    PriceFactory(model_name="m")
    model = ServedModelFactory(name="m", upstream_key_env="UPSTREAM_KEY")
    before = (model.upstream_url, model.upstream_key_env)
    tampered = {"upstream_url": "http://evil/v1", "upstream_key_env": "SECRET_KEY", "max_concurrency": "8"}
    assert change(signed_in("operator"), model, **tampered).status_code == 302
    model.refresh_from_db()
    assert ((model.upstream_url, model.upstream_key_env), model.max_concurrency) == (before, 8)
    assert change(signed_in("administrator", name="ada"), model, upstream_url="http://other/v1").status_code == 302
    model.refresh_from_db()
    assert model.upstream_url == "http://other/v1"


def test_a_model_keeps_its_name() -> None:
    """Prices and batches know it by that."""
    PriceFactory(model_name="m")
    model = ServedModelFactory(name="m")
    change(signed_in(), model, name="n")
    assert ServedModel.objects.get(pk=model.pk).name == "m"


def test_the_list_shows_the_price_in_force_and_its_absence() -> None:
    ServedModelFactory(name="free-of-price")
    Price.objects.create(
        model_name="m", input_price=Decimal("0.15"), output_price=Decimal("0.6"), batch_discount=Decimal("0.5")
    )
    ServedModelFactory(name="m")
    page = signed_in("viewer").get(url(ServedModel)).content.decode()
    assert "0.15 / 0.6 USD" in page
    assert page.count("no price</span>") == 1
