import json
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from batches_app.models import ServedModel
from billing_app import prices
from billing_app.models import AuditEntry, Price

pytestmark = pytest.mark.django_db
CHAT = "/v1/chat/completions"
GIVEN = {
    "--upstream-url": "http://vllm:8000/v1",
    "--endpoint": CHAT,
    "--input-price": "0.15",
    "--output-price": "0.6",
    "--max-concurrency": "32",
}


def set_model(name: str = "org/m:1", *more: str, **changed: str) -> dict[str, Any]:
    given = GIVEN | {f"--{option.replace('_', '-')}": value for option, value in changed.items()}
    out = StringIO()
    flags = [f"{option}={value}" for option, value in given.items()]
    call_command("set_model", name, *flags, *more, "--json", stdout=out)
    return dict(json.loads(out.getvalue()))


def test_a_model_is_served_with_what_was_given() -> None:
    assert set_model("org/m:1", "--endpoint=/v1/completions", upstream_key_env="VLLM_KEY", context="8192") == {
        "name": "org/m:1",
        "changed": True,
    }
    model, price = ServedModel.objects.get(name="org/m:1"), prices.current("org/m:1", timezone.now())
    assert sorted(model.endpoints) == [CHAT, "/v1/completions"]
    assert (model.upstream_url, model.upstream_key_env) == ("http://vllm:8000/v1", "VLLM_KEY")
    assert (model.context_tokens, model.max_concurrency, model.is_enabled) == (8192, 32, True)
    assert price is not None
    assert [str(x) for x in (price.input_price, price.output_price, price.batch_discount)] == ["0.15", "0.6", "0.5"]


def test_the_same_again_says_so_and_changes_nothing() -> None:
    set_model()
    assert set_model()["changed"] is False
    assert Price.objects.filter(model_name="org/m:1").count() == 1


def test_a_model_is_taken_out_of_service_and_back_in() -> None:
    set_model("m", "--disable")
    assert not ServedModel.objects.get(name="m").is_enabled
    set_model("m")
    assert ServedModel.objects.get(name="m").is_enabled


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("upstream_url", "vllm:8000", "--upstream-url must look like http://HOST:PORT/v1"),
        ("upstream_url", "ftp://vllm/v1", "--upstream-url must look like"),
        ("upstream_url", "builtin", "--upstream-url must look like"),
        ("upstream_url", "http://vllm:port/v1", "--upstream-url must look like"),
        ("upstream_url", "http://[::1/v1", "--upstream-url must look like"),
        ("upstream_url", "http://vllm/v1?key=1", "--upstream-url must look like"),
        ("upstream_url", "http://vllm/v1/chat/completions", "--upstream-url must look like"),
        ("upstream_url", "http://vllm\\@evil/v1", "--upstream-url must look like"),
        ("upstream_url", "http://vllm\r\nX-Evil: 1/v1", "--upstream-url must look like"),
        ("upstream_url", "http://169.254.169.254/latest", "cannot be used. The address 169.254.169.254 is never"),
        ("endpoint", "/v1/chat/ds-test", "--endpoint"),
        ("endpoint", "/v1/images", "--endpoint"),
        ("input_price", "free", "--input-price must be a number"),
        ("input_price", "-1", "--input-price must be 0 or more"),
        ("output_price", "NaN", "--output-price must be 0 or more"),
        ("output_price", "Infinity", "--output-price must be 0 or more"),
        ("input_price", "1e999999", "--input-price has at most"),
        ("input_price", "1e-999999", "--input-price has at most"),
        ("batch_discount", "1.1", "--batch-discount must be between 0 and 1"),
        ("batch_discount", "-0.1", "--batch-discount must be 0 or more"),
        ("max_concurrency", "0", "--max-concurrency"),
        ("max_concurrency", str(2**31), "--max-concurrency"),
        ("context", "0", "--context"),
        ("upstream_key_env", "sk-secret-itself", "--upstream-key-env"),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence_and_changes_nothing(option: str, value: str, sentence: str) -> None:
    with pytest.raises(CommandError, match=sentence):
        set_model("m", **{option: value})
    assert not ServedModel.objects.filter(name="m").exists()
    assert prices.current("m", timezone.now()) is None


@pytest.mark.parametrize("name", ["", " ", "x" * 201])
def test_a_model_needs_a_name_that_fits(name: str) -> None:
    with pytest.raises(CommandError, match="name"):
        set_model(name)


def test_the_built_in_model_cannot_be_redefined() -> None:
    with pytest.raises(CommandError, match="'batch-test-model' is built in and cannot be changed"):
        set_model("batch-test-model")


def test_what_it_changes_is_on_record() -> None:
    """From what to what; to set the same again is no change."""
    set_model()
    set_model()
    set_model(output_price="7")
    created, changed = AuditEntry.objects.order_by("pk")
    assert (created.action, changed.action) == ("model.created", "model.changed")
    assert list(changed.changes) == ["price"]
    assert "7 output" in changed.changes["price"][1]
