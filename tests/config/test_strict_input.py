from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.api.errors import BadRequest
from config.api.handler import json_object
from tests.tenants import Tenant, error_of

HOSTILE = {
    "lone surrogate": rb'{"input_file_id": "\ud800"}',
    "surrogates in the wrong order": rb'{"metadata": {"a": "\udc00\ud800"}}',
    "surrogate as a key": rb'{"metadata": {"\ud800": "a"}}',
    "surrogate in raw bytes": b'{"input_file_id": "\xed\xa0\x80"}',
    "surrogate in an unknown field": rb'{"unknown": ["\udfff"]}',
    "NUL": rb'{"input_file_id": "\u0000"}',
    "NUL as a key": rb'{"metadata": {"a\u0000": "a"}}',
    "NUL deep in an unknown field": rb'{"unknown": [{"a": [1, "\u0000"]}]}',
    "NUL in raw bytes": b'{"input_file_id": "\x00"}',
    "NaN": b'{"unknown": NaN}',
    "Infinity": b'{"unknown": -Infinity}',
    "5,000 digits": b'{"unknown": ' + b"9" * 5_000 + b"}",
    "a number out of range": b'{"unknown": 1e999}',
    "100,000 arrays": b'{"unknown": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "100,000 objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "100,000 arrays that do not end": b"[" * 100_000,
    "not UTF-8": b'{"a": "\xff"}',
    "an array": b"[]",
    "a string": b'"a"',
    "null": b"null",
    "two objects": b"{}{}",
    "larger than allowed": b'{"a": "' + b"a" * 1024 * 1024 + b'"}',
}


@pytest.mark.django_db
@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_body(body: bytes) -> None:
    """C6: anywhere in a body, also where nobody looks at it, it is a 400."""
    tenant = Tenant("acme")
    batch = tenant.has_batch()
    error_of(tenant.post("batches", raw=body), 400)
    error_of(tenant.post(f"batches/{batch.public_id}/cancel", raw=body), 400)
    batch.refresh_from_db()
    assert batch.status == "validating"


@pytest.mark.django_db
@pytest.mark.parametrize("bad", ["%00", "%ED%A0%80", "%FF", "a%00b"])
@pytest.mark.parametrize(
    "path", ["files/{}", "files/{}/content", "batches/{}", "models/{}", "files?after={}", "batches?ds_name={}"]
)
def test_hostile_url(path: str, bad: str) -> None:
    """C6: so it is in a path and in a query string."""
    error_of(Tenant("acme").get(path.format(bad)), 400)


@pytest.mark.django_db
@pytest.mark.parametrize("number", ["9" * 5_000, "-1", "0", "1.5", "1e2", "\uff11", "1_0", " 1", "NaN", "10001"])
def test_hostile_number(number: str) -> None:
    """C6: a number that is none, or too long, is a 400 that names its parameter."""
    assert error_of(Tenant("acme").get("files", {"limit": number}), 400)["param"] == "limit"


@pytest.mark.django_db
@pytest.mark.parametrize("key", ["a" * 256, "a\x7f", "\x80"])
def test_hostile_header(key: str) -> None:
    """C6: and in a header that means something."""
    tenant = Tenant("acme")
    response = tenant.post("batches", {}, headers={"Idempotency-Key": key})
    assert error_of(response, 400)
    body = {"input_file_id": "file-x", "endpoint": "/v1/embeddings", "completion_window": "24h"}
    assert error_of(tenant.post("batches", body, headers={"Idempotency-Key": key}), 400)["param"] == "idempotency_key"


@given(st.binary())
def test_any_body(body: bytes) -> None:
    """C6: whatever comes, it is an object or a refusal."""
    with suppress(BadRequest):
        assert isinstance(json_object(body), dict)


def test_a_backslash_before_u0000_is_text() -> None:
    """C6 is for NUL, not for the six characters that describe it."""
    assert json_object(rb'{"a": "\\u0000"}') == {"a": "\\u0000"}
    with pytest.raises(BadRequest):
        json_object(rb'{"a": "\\\u0000"}')
