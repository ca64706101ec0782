import errno
import json
from typing import Any
from unittest.mock import patch

import pytest
from django.db import OperationalError
from django.test import Client

from tests.log_lines import written
from tests.tenants import Tenant, error_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def tenant() -> Tenant:
    return Tenant("acme")


@pytest.mark.parametrize("path", ["nothing", "files/", "batches/", "", "files/x/content/more"])
def test_unknown_path(tenant: Tenant, path: str) -> None:
    """C1: a path that does not exist, also one with a trailing slash, answers with the envelope."""
    assert error_of(tenant.get(path), 404)["type"] == "invalid_request_error"
    assert error_of(tenant.post(path, {}), 404)["message"].startswith("Invalid URL (POST /v1")


def test_v1_without_a_slash() -> None:
    """C1: /v1 itself is under /v1."""
    error_of(Client().get("/v1"), 404)


def test_wrong_method(tenant: Tenant) -> None:
    """C1: 405 has the envelope, and names what is allowed."""
    response = tenant.delete("batches")
    assert error_of(response, 405)["message"] == "Not allowed to DELETE on /v1/batches."
    assert set(response["Allow"].split(", ")) == {"GET", "HEAD", "POST"}


def test_wrong_content_type(tenant: Tenant) -> None:
    """C1: 415 has the envelope."""
    error_of(tenant.post("batches", raw=b"<a/>", content_type="text/xml"), 415)
    error_of(tenant.post("files", {"purpose": "batch"}), 415)


def test_broken_body(tenant: Tenant) -> None:
    """C1: so has a body that cannot be read."""
    assert error_of(tenant.post("batches", raw=b'{"a": '), 400)["type"] == "invalid_request_error"


def test_json_whatever_is_accepted(tenant: Tenant) -> None:
    """C3: `Accept: application/binary`, which SDKs send for downloads, is answered and not refused."""
    for accept in ("application/binary", "text/html", "nonsense"):
        assert tenant.get("models", Accept=accept)["Content-Type"] == "application/json"
        assert error_of(tenant.get("files/none", Accept=accept), 404)


def test_unforeseen_error(tenant: Tenant) -> None:
    """C1: a fault of ours is an envelope without its details, and a log entry with the request's id."""
    with patch("files_app.api.views._file", side_effect=RuntimeError("secret")), written() as log:
        response = tenant.get("files/x")
    assert error_of(response, 500)["type"] == "server_error"
    assert b"secret" not in response.content
    (line,) = log.named("config.api.errors")
    assert (line["request_id"], line["account"]) == (response["x-request-id"], "acme")
    assert line["exception"].endswith("RuntimeError: secret")


def test_unforeseen_error_in_rendering(tenant: Tenant) -> None:
    """C1: even where DRF has no say any more."""
    with patch("config.api.handler.JSONRenderer.render", side_effect=RuntimeError):
        assert error_of(tenant.get("models"), 500)["type"] == "server_error"


def test_database_away(tenant: Tenant) -> None:
    """C4: while the database is away, SDKs are told to come again."""
    with patch("files_app.api.views._file", side_effect=OperationalError("gone")):
        response = tenant.get("files/x")
    error_of(response, 503)
    assert int(response["Retry-After"]) > 0


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
def test_a_full_or_read_only_disk_is_not_a_fault_of_the_request(tenant: Tenant, number: int) -> None:
    """C4. And it comes to rest: nothing of the upload stays."""
    with patch("files_app.blobs.write", side_effect=OSError(number, "no")):
        response = tenant.upload()
    assert error_of(response, 503)["message"].startswith("The service cannot store files")
    assert int(response["Retry-After"]) > 0
    assert tenant.get("files").json()["data"] == []


@pytest.mark.parametrize("debug", [False, True])
def test_wrong_host(settings: Any, debug: bool) -> None:
    """C1: Django's own refusals come as the envelope too, also while debugging."""
    settings.DEBUG = debug
    error_of(Client().get("/v1/models", headers={"Host": "evil.example"}), 400)


def test_request_id(tenant: Tenant) -> None:
    """C2: every answer has an id, and each its own."""
    answers = [tenant.get("models"), tenant.get("nothing"), Client().get("/v1/models"), Client().get("/healthz")]
    given = [answer["x-request-id"] for answer in answers]
    assert len(set(given)) == len(given)
    assert all(request_id.startswith("req_") for request_id in given)


def test_conflict_is_not_retried(tenant: Tenant) -> None:
    """C4: a 409 says that to repeat it is no use."""
    batch = tenant.has_batch(status="completed")
    assert tenant.post(f"batches/{batch.public_id}/cancel")["x-should-retry"] == "false"


def test_pages_for_people() -> None:
    """C1 is for /v1: elsewhere an error is a page."""
    response = Client().get("/nothing")
    assert response.status_code == 404
    assert response["Content-Type"].startswith("text/html")
    assert Client().get("/v10/x")["Content-Type"].startswith("text/html")


def test_health() -> None:
    response = Client().get("/healthz")
    assert (response.status_code, response.content) == (200, b"ok")


def test_start_page_is_the_console() -> None:
    assert Client().get("/")["Location"] == "/console/"


def test_text_leaves_as_it_is(tenant: Tenant) -> None:
    """UTF-8 is not escaped on the wire."""
    batch = tenant.has_batch(metadata={"a": "żółć \u2028 😀"})
    response = tenant.get(f"batches/{batch.public_id}")
    assert "żółć \u2028 😀".encode() in response.content
    assert json.loads(response.content)["metadata"] == batch.metadata
