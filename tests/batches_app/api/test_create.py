from datetime import timedelta
from typing import Any

import pytest

from batches_app.models import Batch
from tests.tenants import Tenant, error_of

MEMBERS = [
    "id", "object", "endpoint", "model", "errors", "input_file_id", "completion_window", "status", "output_file_id",
    "error_file_id", "created_at", "in_progress_at", "expires_at", "finalizing_at", "completed_at", "failed_at",
    "expired_at", "cancelling_at", "cancelled_at", "request_counts", "usage", "metadata",
    "cost",
]  # fmt: skip
ENDPOINTS = ["/v1/chat/completions", "/v1/embeddings", "/v1/completions", "/v1/responses", "/v1/chat/ds-test"]


def test_create(owner: Tenant) -> None:
    """B1, B4: a new batch is validating, with its expiry, counts of 0/0/0 and every member in order."""
    wire = owner.create_batch(metadata={"ds_name": "nightly", "a": "b"}).json()
    assert list(wire) == MEMBERS
    assert (wire["object"], wire["status"], wire["model"], wire["errors"]) == ("batch", "validating", None, None)
    assert wire["expires_at"] == wire["created_at"] + 24 * 3600
    assert wire["request_counts"] == {"total": 0, "completed": 0, "failed": 0}
    assert wire["usage"] == {
        "input_tokens": 0,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 0,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 0,
    }
    assert wire["metadata"] == {"ds_name": "nightly", "a": "b"}
    unset = set(MEMBERS[8:10] + MEMBERS[11:12] + MEMBERS[13:19])
    assert all(wire[member] is None for member in unset)


def test_id(owner: Tenant) -> None:
    """B4: the id is `batch_` and 32 hex digits."""
    prefix, _, digits = owner.create_batch().json()["id"].partition("_")
    assert prefix == "batch"
    assert len(bytes.fromhex(digits)) == 16


def test_a_file_that_does_not_exist(owner: Tenant, stranger: Tenant) -> None:
    """V11, C7: neither an unknown file nor another's is an HTTP error: the batch is created alike."""
    for file in ("file-batch-none", stranger.has_file().public_id):
        assert owner.create_batch(input_file_id=file).json()["status"] == "validating"
    assert set(Batch.objects.values_list("source", flat=True)) == {None}


def test_the_file_is_held(owner: Tenant) -> None:
    """F6: from creation on the batch holds its input."""
    file = owner.has_file()
    batch = owner.create_batch(input_file_id=file.public_id).json()
    assert [hold.holder for hold in file.holds.all()] == [batch["id"]]


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_endpoints(owner: Tenant, endpoint: str) -> None:
    """B1: the endpoints of the contract."""
    assert owner.create_batch(endpoint=endpoint).json()["endpoint"] == endpoint


@pytest.mark.parametrize("endpoint", ["/v1/images", "/v1/chat/completions/", "v1/embeddings", "a" * 5_000])
def test_other_endpoints(owner: Tenant, endpoint: str) -> None:
    """B1: another one is a 400 that repeats it and names those that are supported."""
    error = error_of(owner.create_batch(endpoint=endpoint), 400)
    assert (error["param"], error["code"]) == ("endpoint", "invalid_value")
    assert endpoint[:100] in error["message"]
    assert all(known in error["message"] for known in ENDPOINTS)
    assert len(error["message"]) < 1_000


@pytest.mark.parametrize("param", ["input_file_id", "endpoint", "completion_window"])
def test_required(owner: Tenant, param: str) -> None:
    """B1: what is missing, null or of another type is named."""
    for missing in (None, ""):
        error = error_of(owner.create_batch(**{param: missing}), 400)
        assert error["message"] == f"Missing required parameter: '{param}'."
        assert (error["param"], error["code"]) == (param, "missing_required_parameter")
    error = error_of(owner.create_batch(**{param: 7}), 400)
    assert error["message"] == f"Invalid type for '{param}': expected a string, but got an integer instead."
    assert (error["param"], error["code"]) == (param, "invalid_type")


def test_no_body(owner: Tenant) -> None:
    """B1: an empty body lacks the first member."""
    assert error_of(owner.post("batches"), 400)["param"] == "input_file_id"


def test_a_long_file_id(owner: Tenant) -> None:
    """C6: an id that no file can have."""
    assert owner.create_batch(input_file_id="f" * 64).status_code == 200
    assert error_of(owner.create_batch(input_file_id="f" * 65), 400)["param"] == "input_file_id"


@pytest.mark.parametrize(("window", "length"), [("24h", timedelta(days=1)), ("14d", timedelta(days=14))])
def test_window(owner: Tenant, window: str, length: timedelta) -> None:
    """B2: the window is kept as it was written, and expires_at follows from it."""
    wire = owner.create_batch(completion_window=window).json()
    assert wire["completion_window"] == window
    assert wire["expires_at"] - wire["created_at"] == length.total_seconds()


def test_bad_window(owner: Tenant) -> None:
    """B2: else 400, with the value and what is supported."""
    error = error_of(owner.create_batch(completion_window="15d"), 400)
    assert (error["param"], error["code"]) == ("completion_window", "invalid_value")
    assert "'15d'" in error["message"]
    assert "14d" in error["message"]


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (["x"], "an array"),
        ({"x": "y"}, "an object"),
        (1, "an integer"),
        (1.5, "a number"),
        (True, "a boolean"),
        (None, "null"),
    ],
)
def test_metadata_types(owner: Tenant, value: Any, name: str) -> None:
    """B3: a value of another type is named, in OpenAI's words."""
    error = error_of(owner.create_batch(metadata={"tags": value}), 400)
    assert error["message"] == f"Invalid type for 'metadata.tags': expected a string, but got {name} instead."
    assert (error["param"], error["code"]) == ("metadata.tags", "invalid_type")


def test_metadata_that_is_none(owner: Tenant) -> None:
    """B3: metadata may be null, but nothing else that is no object."""
    assert owner.create_batch(metadata=None).json()["metadata"] is None
    assert error_of(owner.create_batch(metadata="x"), 400)["param"] == "metadata"


GOOD: list[dict[str, str]] = [
    {},
    {"": ""},
    *({f"k{n}": "v" for n in range(pairs)} for pairs in (15, 16)),
    # Characters, not bytes, nor UTF-16.
    *({letter * 63: letter * 511, letter * 64: letter * 512} for letter in "k今😀"),
    *({"ds_name": letter * 99, "ds_description": letter * 199} for letter in "k今😀"),
    *({"ds_name": letter * 100, "ds_description": letter * 200} for letter in "k今😀"),
    {"ds_names": "n" * 512, "DS_NAME": "n" * 512},
    {f"{n:02}" + "今" * 62: "😀" * 512 for n in range(16)},
]
BAD: list[tuple[dict[str, str], str, str]] = [
    ({f"k{n}": "v" for n in range(17)}, "metadata", "object_above_max_properties"),
    *(({letter * 65: "v"}, "metadata", "string_above_max_length") for letter in "k今😀"),
    *(({"k": letter * 513}, "metadata.k", "string_above_max_length") for letter in "v今😀"),
    *(({"ds_name": letter * 101}, "metadata.ds_name", "string_above_max_length") for letter in "n今😀"),
    *(({"ds_description": letter * 201}, "metadata.ds_description", "string_above_max_length") for letter in "d今😀"),
]


@pytest.mark.parametrize("metadata", GOOD)
def test_metadata_within_bounds(owner: Tenant, metadata: dict[str, str]) -> None:
    """B3: 16 pairs, 64 characters, 512, 100 and 200."""
    assert owner.create_batch(metadata=metadata).json()["metadata"] == metadata


@pytest.mark.parametrize(("metadata", "param", "code"), BAD)
def test_metadata_out_of_bounds(owner: Tenant, metadata: dict[str, str], param: str, code: str) -> None:
    """B3: and one more of each is too much."""
    error = error_of(owner.create_batch(metadata=metadata), 400)
    assert (error["param"], error["code"]) == (param, code)
    longest = {"metadata.k": 512, "metadata.ds_name": 100, "metadata.ds_description": 200}.get(param, 64)
    expected = "at most 16, but got 17" if code.startswith("object") else f"at most {longest} characters, but got"
    assert expected in error["message"]


@pytest.mark.parametrize(
    ("value", "param"),
    [
        ("x", "output_expires_after"),
        ({}, "output_expires_after[anchor]"),
        ({"anchor": "created_at"}, "output_expires_after[seconds]"),
        ({"anchor": "created_at", "seconds": 3599}, "output_expires_after[seconds]"),
        ({"anchor": "created_at", "seconds": 2592001}, "output_expires_after[seconds]"),
        ({"anchor": "created_at", "seconds": 10**40}, "output_expires_after[seconds]"),
        ({"anchor": "created_at", "seconds": True}, "output_expires_after[seconds]"),
        ({"anchor": "created_at", "seconds": 3600.5}, "output_expires_after[seconds]"),
        ({"anchor": "x", "seconds": 3600}, "output_expires_after[anchor]"),
    ],
)
def test_bad_output_expiry(owner: Tenant, value: Any, param: str) -> None:
    """B1: output_expires_after has the bounds of F1."""
    assert error_of(owner.create_batch(output_expires_after=value), 400)["param"] == param


@pytest.mark.parametrize("seconds", [3600, 3601, 2_591_999, 2_592_000])
def test_output_expiry(owner: Tenant, seconds: int) -> None:
    """B1: the bounds are within."""
    owner.create_batch(output_expires_after={"anchor": "created_at", "seconds": seconds})
    assert Batch.objects.get().output_expires_after == seconds


def test_unknown_fields(owner: Tenant) -> None:
    """C6: fields that nobody knows are ignored."""
    assert owner.create_batch(unknown={"a": [1, 2]}, model="gpt").status_code == 200


def test_idempotency(owner: Tenant, stranger: Tenant) -> None:
    """C5: the same key with the same request answers the same batch, by header or by field."""
    first = owner.create_batch(idempotency_key="k-1").json()
    body = {"input_file_id": "file-batch-x", "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    assert owner.post("batches", body, headers={"Idempotency-Key": "k-1"}).json() == first
    assert stranger.create_batch(idempotency_key="k-1").json()["id"] != first["id"]
    assert Batch.objects.count() == 2


def test_idempotency_conflict(owner: Tenant) -> None:
    """C5: with another request it is a conflict, which SDKs do not repeat (C4)."""
    owner.create_batch(idempotency_key="k-1")
    response = owner.create_batch(idempotency_key="k-1", endpoint="/v1/embeddings")
    assert "conflict" in error_of(response, 409)["message"]
    assert response["x-should-retry"] == "false"


@pytest.mark.parametrize(("length", "status"), [(254, 200), (255, 200), (256, 400)])
@pytest.mark.parametrize("letter", ["k", "今", "😀"])
def test_idempotency_key_length(owner: Tenant, length: int, status: int, letter: str) -> None:
    """C5: a key has up to 255 characters, not bytes, and the last of them counts."""
    keys = [letter * length, letter * (length - 1) + "l"]
    assert {owner.create_batch(idempotency_key=key).status_code for key in keys} == {status}
    assert Batch.objects.count() == (2 if status == 200 else 0)


def test_two_idempotency_keys(owner: Tenant) -> None:
    """C5: a header and a field that differ are an error, not a choice."""
    body = {"input_file_id": "f", "endpoint": "/v1/embeddings", "completion_window": "24h", "idempotency_key": "a"}
    assert error_of(owner.post("batches", body, headers={"Idempotency-Key": "b"}), 400)["param"] == "idempotency_key"
    assert error_of(owner.create_batch(idempotency_key=7), 400)["code"] == "invalid_type"
