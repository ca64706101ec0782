"""The API's description: whole, true, and served to everybody."""

import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from drf_spectacular.drainage import GENERATOR_STATS
from drf_spectacular.generators import SchemaGenerator

from batches_app.api.schema import WINDOW
from batches_app.api.windows import parse_window
from config.api.errors import unknown_url
from config.api.schema_document import document, openapi_json
from tests.tenants import Tenant, error_of

NOT_OPERATIONS = {unknown_url, openapi_json}  # what is not there, and the document itself
CONVERTER = re.compile(r"<(?:\w+:)?(\w+)>")


def routes(resolver: URLResolver, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for entry in resolver.url_patterns:
        path = prefix + str(entry.pattern)
        if isinstance(entry, URLResolver):
            yield from routes(entry, path)
        elif isinstance(entry, URLPattern) and path.lstrip("^").startswith("v1"):
            yield "/" + CONVERTER.sub(r"{\1}", path), entry.callback


def operations() -> dict[tuple[str, str], dict[str, Any]]:
    return {(path, method): one for path, methods in document()["paths"].items() for method, one in methods.items()}


def object_of(name: str) -> dict[str, Any]:
    found: dict[str, Any] = document()["components"]["schemas"][name]
    return found


# Whole


def test_every_route_of_v1_is_described_and_no_other() -> None:
    served = {
        (path, method)
        for path, view in routes(get_resolver())
        if view not in NOT_OPERATIONS
        for method in view.view_class.scopes
    }
    assert len(served) >= 14
    assert set(operations()) == served


def test_the_document_is_made_without_a_warning() -> None:
    generator: Any = SchemaGenerator
    with GENERATOR_STATS.silence():
        generator().get_schema(public=True)
        assert not GENERATOR_STATS


@pytest.mark.parametrize("operation", operations().values(), ids=lambda one: str(one["operationId"]))
def test_every_operation_is_told_in_words_with_examples(operation: dict[str, Any]) -> None:
    samples = {one["lang"]: one["source"] for one in operation["x-codeSamples"]}
    assert set(samples) == {"curl", "Python"}
    assert operation["summary"]
    assert operation["tags"][0] in {tag["name"] for tag in document()["tags"]}
    compile(samples["Python"], operation["operationId"], "exec")


@pytest.mark.parametrize(("path", "method"), operations())
def test_the_curl_examples_are_of_their_operations(path: str, method: str) -> None:
    sample = operations()[path, method]["x-codeSamples"][0]["source"]
    address = re.escape("$BATCHDESK" + path)
    assert re.search(re.sub(r"\\{\w+\\}", r"[\\w-]+", address) + r'(?=$|["\s?])', sample)
    sends = " -d '" in sample or " -F " in sample
    assert method == ("delete" if "-X DELETE" in sample else "post" if sends or "-X POST" in sample else "get")


def test_every_operation_has_the_envelope_for_its_errors() -> None:
    """C1, C2"""
    for operation in operations().values():
        assert {"400", "401", "403", "429", "500", "503"} <= set(operation["responses"])
        for status, answer in operation["responses"].items():
            assert answer["headers"]["x-request-id"]["required"]
            if status >= "400":
                assert answer["content"] == {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}


def test_every_operation_asks_for_a_key() -> None:
    assert all(operation["security"] == [{"bearer": []}] for operation in operations().values())
    assert document()["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"


# True


@pytest.mark.django_db
def test_objects_have_the_members_that_are_sent_and_no_others() -> None:
    """F2, B4, C1: in their order, and all of them always."""
    tenant = Tenant("acme")
    batch = tenant.has_batch(errors=[{"code": "c", "message": "m", "param": None, "line": 1}])
    file = tenant.has_file()
    lines = {"start_time": "0"}
    for name, sent in (
        ("Batch", tenant.get(f"batches/{batch.public_id}").json()),
        ("BatchList", tenant.get("batches").json()),
        ("File", tenant.get(f"files/{file.public_id}").json()),
        ("FileList", tenant.get("files").json()),
        ("ModelList", tenant.get("models").json()),
        ("Model", tenant.get("models/batch-test-model").json()),
        ("UsagePage", tenant.get("usage", lines).json()),
        ("CostPage", tenant.get("costs", lines).json()),
        ("Error", tenant.get("files/none").json()),
        ("DeletedFile", tenant.delete(f"files/{file.public_id}").json()),
    ):
        assert_described(sent, {"$ref": f"#/components/schemas/{name}"}, name)


@pytest.mark.django_db
def test_an_estimate_is_described_whole() -> None:
    tenant = Tenant("acme")
    line = b'{"custom_id": "1", "method": "POST", "url": "/v1/chat/ds-test", "body": {"model": "batch-test-model"}}'
    for content in (line, b"{}"):
        file = tenant.upload(content).json()["id"]
        sent = tenant.post("batches/estimate", {"input_file_id": file, "endpoint": "/v1/chat/ds-test"}).json()
        assert_described(sent, {"$ref": "#/components/schemas/BatchEstimate"}, "BatchEstimate")


def assert_described(sent: Any, schema: dict[str, Any], place: str) -> None:
    """Members only; of what kind they are is for schemathesis to see."""
    for way in ("oneOf", "allOf"):
        schema = next((one for one in schema.get(way, ()) if "$ref" in one), schema)
    if "$ref" in schema:
        schema = object_of(schema["$ref"].rpartition("/")[2])
    if isinstance(sent, list):
        for item in sent:
            assert_described(item, schema["items"], place)
    elif isinstance(sent, dict) and "additionalProperties" not in schema:
        assert list(sent) == list(schema["properties"]), place
        assert set(schema["required"]) == set(sent), place
        for name, value in sent.items():
            assert_described(value, schema["properties"][name], f"{place}.{name}")


def test_the_window_s_pattern_is_what_is_taken() -> None:
    """B2"""
    for text in [f"{number}{unit}" for number in range(400) for unit in "hdm"] + ["024h", "24H", "24h\n", ""]:
        assert bool(re.fullmatch(WINDOW.strip("^$"), text)) == (parse_window(text) is not None), text


# Served


def test_everybody_may_read_it_and_caches_may_keep_it() -> None:
    answer = Client().get("/v1/openapi.json")
    assert msgspec.json.decode(answer.content) == document()
    assert answer["Content-Type"] == "application/json"
    assert answer["Cache-Control"] == "public, max-age=300"
    assert answer["x-request-id"].startswith("req_")
    again = Client().get("/v1/openapi.json", headers={"If-None-Match": answer["ETag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.django_db  # the connection is looked after when an answer is replaced
def test_it_can_only_be_read() -> None:
    """C1: a 405 has the envelope, and names what is allowed."""
    answer = Client().post("/v1/openapi.json")
    error_of(answer, 405)
    assert set(answer["Allow"].split(", ")) == {"GET", "HEAD"}
