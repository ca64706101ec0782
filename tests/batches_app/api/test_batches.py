from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.utils import timezone

from batches_app.models import BatchEvent, ServedModel
from batches_app.states import TERMINAL, Status
from billing_app.models import APIKey
from tests.tenants import Tenant, error_of


def ids(owner: Tenant, **query: Any) -> list[str]:
    response = owner.get("batches", query)
    assert response.status_code == 200, response.content
    return [batch["id"] for batch in response.json()["data"]]


def other_than(public_id: str) -> str:
    return public_id[:-1] + ("0" if public_id[-1] != "0" else "1")


def test_retrieve(owner: Tenant) -> None:
    """B4, B6: a batch that has come to its end, as the wire shows it."""
    at = datetime(2026, 11, 1, tzinfo=UTC)
    now = timezone.now()
    batch = owner.has_batch(
        created_at=now,
        status="completed",
        model_name="qwen3-vl-flash",
        output_file_id="file-batch_output-1",
        in_progress_at=at,
        finalizing_at=at,
        completed_at=at + timedelta(seconds=1.9),
        total=10,
        completed=7,
        failed=3,
        input_tokens=100,
        cached_tokens=40,
        output_tokens=50,
        reasoning_tokens=20,
    )
    wire = owner.get(f"batches/{batch.public_id}").json()
    assert (wire["model"], wire["output_file_id"], wire["error_file_id"]) == (
        "qwen3-vl-flash",
        "file-batch_output-1",
        None,
    )
    assert wire["created_at"] == int(now.timestamp())
    assert wire["completed_at"] == int(at.timestamp()) + 1
    assert wire["request_counts"] == {"total": 10, "completed": 7, "failed": 3}
    assert wire["usage"] == {
        "input_tokens": 100,
        "input_tokens_details": {"cached_tokens": 40},
        "output_tokens": 50,
        "output_tokens_details": {"reasoning_tokens": 20},
        "total_tokens": 150,
    }


def test_errors(owner: Tenant) -> None:
    """B4: the errors of a failed batch are a list object."""
    entry = {"code": "empty_file", "message": "…", "param": None, "line": None}
    batch = owner.has_batch(status="failed", errors=[entry])
    assert owner.get(f"batches/{batch.public_id}").json()["errors"] == {"object": "list", "data": [entry]}


def test_thirty_days(owner: Tenant) -> None:
    """B6: batches of the last 30 days, and no older ones."""
    young = owner.has_batch(created_at=timezone.now() - timedelta(days=29, hours=23))
    old = owner.has_batch(created_at=timezone.now() - timedelta(days=30, minutes=1))
    assert owner.get(f"batches/{young.public_id}").status_code == 200
    error = error_of(owner.get(f"batches/{old.public_id}"), 404)
    assert error["message"] == f"No such Batch object: {old.public_id}"
    assert error["code"] is None


def test_isolation(owner: Tenant, stranger: Tenant) -> None:
    """C7: byte for byte, another account's batch answers like one that does not exist."""
    theirs = owner.has_batch()
    real, none = theirs.public_id, other_than(theirs.public_id)
    for path in ("batches/{}", "batches?after={}"):
        one, other = stranger.get(path.format(real)), stranger.get(path.format(none))
        assert one.status_code == other.status_code >= 400
        assert one.content.replace(real.encode(), b"ID") == other.content.replace(none.encode(), b"ID")
    one, other = (stranger.post(f"batches/{batch}/cancel") for batch in (real, none))
    assert one.status_code == other.status_code == 404
    assert one.content.replace(real.encode(), b"ID") == other.content.replace(none.encode(), b"ID")
    assert ids(stranger) == ids(stranger, input_file_ids=theirs.input_file_id) == []
    theirs.refresh_from_db()
    assert theirs.status == "validating"


def test_list(owner: Tenant) -> None:
    """B7: newest first, 20 of them unless asked otherwise, page by page."""
    made = [owner.has_batch().public_id for _ in range(25)]
    page = owner.get("batches").json()
    assert list(page) == ["object", "data", "first_id", "last_id", "has_more"]
    assert [batch["id"] for batch in page["data"]] == made[::-1][:20]
    assert page["has_more"] is True
    assert ids(owner, after=page["last_id"]) == made[::-1][20:]
    assert ids(owner, limit=100) == made[::-1]


def test_page_size(owner: Tenant) -> None:
    """B7: 1…100 batches on a page."""
    made = [owner.has_batch().public_id for _ in range(101)][::-1]
    for limit in (1, 2, 99, 100):
        assert ids(owner, limit=limit) == made[:limit]
    assert owner.get("batches", {"limit": 100, "after": made[0]}).json()["has_more"] is False
    assert owner.get("batches", {"limit": 100}).json()["has_more"] is True


@pytest.mark.parametrize("count", [1, 19, 20])
def test_number_of_input_files(owner: Tenant, count: int) -> None:
    """B7: up to 20 ids, each of which finds its batch."""
    made = [owner.has_batch(input_file_id=f"file-{n}").public_id for n in range(21)]
    listed = ",".join(f"file-{n}" for n in range(count))
    assert ids(owner, input_file_ids=listed, limit=100) == made[:count][::-1]


def test_filters(owner: Tenant) -> None:
    """B7: by part of the name in any case, by input files, by states, and all of these together."""
    first = owner.has_batch(name="Nightly 100%", input_file_id="file-1", status="failed").public_id
    second = owner.has_batch(name="weekly", input_file_id="file-2").public_id
    third = owner.has_batch(input_file_id="file-3", status="completed").public_id
    assert ids(owner, ds_name="nIGHT") == [first]
    assert ids(owner, ds_name="LY") == [second, first]
    assert ids(owner, ds_name="%") == [first]
    assert ids(owner, ds_name="_") == []
    assert ids(owner, input_file_ids="file-3, file-1,") == [third, first]
    assert ids(owner, status="completed,validating") == [third, second]
    assert ids(owner, ds_name="ly", status="failed", input_file_ids="file-1,file-2") == [first]
    assert ids(owner, status="validating", after=third) == [second]


def test_filter_by_time(owner: Tenant, settings: Any) -> None:
    """B7: times are those of the server's TIME_ZONE."""
    settings.TIME_ZONE = "Asia/Shanghai"
    noon = datetime(2026, 11, 20, 12, tzinfo=ZoneInfo("Asia/Shanghai"))
    early, late = (owner.has_batch(created_at=noon + timedelta(hours=hours)).public_id for hours in (-1, 1))
    assert ids(owner, create_after="20261120120000") == [late]
    assert ids(owner, create_before="20261120120000") == [early]
    assert ids(owner, create_after="20261120110000", create_before="20261120130000") == [late, early]


@pytest.mark.parametrize(
    ("param", "value"),
    [
        ("limit", "0"),
        ("limit", "101"),
        ("limit", "x"),
        ("status", "done"),
        ("status", "completed,"),
        ("input_file_ids", ",".join(f"file-{n}" for n in range(21))),
        ("create_after", "2026-11-20"),
        ("create_after", "20261320000000"),
        ("create_before", "00010101000000"),
        ("create_before", "99991231235959"),
        ("create_before", "9" * 5_000),
        ("after", "batch_none"),
    ],
)
def test_bad_filters(owner: Tenant, param: str, value: str) -> None:
    """B7: a bad value is a 400 with its param."""
    assert error_of(owner.get("batches", {param: value}), 400)["param"] == param


@pytest.mark.parametrize("status", ["validating", "in_progress"])
def test_cancel(owner: Tenant, status: str) -> None:
    """B8: with an empty body; it is cancelling at once, and to cancel it again changes nothing."""
    batch = owner.has_batch(status=status)
    first = owner.post(f"batches/{batch.public_id}/cancel").json()
    assert first["status"] == "cancelling"
    assert first["cancelling_at"] is not None
    assert owner.post(f"batches/{batch.public_id}/cancel").json() == first
    event = BatchEvent.objects.get()
    assert (event.kind, event.owner) == (BatchEvent.Kind.CANCELLED_BY_TENANT, str(APIKey.objects.get()))


def test_cancel_a_cancelled_one(owner: Tenant) -> None:
    """B8: a cancelled batch answers as it is."""
    batch = owner.has_batch(status="cancelled")
    assert owner.post(f"batches/{batch.public_id}/cancel").json()["status"] == "cancelled"


@pytest.mark.parametrize("status", sorted((TERMINAL | {Status.FINALIZING}) - {Status.CANCELLED}))
def test_cancel_a_finished_one(owner: Tenant, status: str) -> None:
    """B8: a finished batch is a 409, and stays what it is (B5)."""
    batch = owner.has_batch(status=status)
    error = error_of(owner.post(f"batches/{batch.public_id}/cancel"), 409)
    assert error["message"] == f"Cannot cancel a batch with status '{status}'."
    assert (error["type"], error["code"]) == ("invalid_request_error", None)
    batch.refresh_from_db()
    assert batch.status == status


@pytest.mark.parametrize("name", ["qwen3-vl-flash", "Qwen/Qwen3:8b", "a/b/c"])
def test_models(owner: Tenant, name: str) -> None:
    """Models: those that are enabled, by ids that may hold / and :."""
    ServedModel.objects.create(name=name, upstream_url="http://x")
    ServedModel.objects.create(name="off/model", upstream_url="http://x", is_enabled=False)
    model = owner.get(f"models/{name}").json()
    assert list(model) == ["id", "object", "created", "owned_by"]
    assert (model["id"], model["object"]) == (name, "model")
    listed = owner.get("models").json()
    assert model in listed["data"]
    assert "off/model" not in [entry["id"] for entry in listed["data"]]
    for missing in ("off/model", "none", f"{name}/"):
        assert error_of(owner.get(f"models/{missing}"), 404)["code"] == "model_not_found"
