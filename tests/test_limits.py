"""Limits that only show on the whole way in: an upload, a batch of it, its validation; each at its real number."""

import json
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import pytest
from django.utils import timezone

from batches_app import jobs, results
from batches_app.models import Batch, Checkpoint
from billing_app.models import Account, EnqueuedTokenLimit, StorageUse
from files_app import blobs
from files_app.models import StoredFile
from tests.factories import PriceFactory, ServedModelFactory
from tests.tenants import LINE, Tenant, error_of

pytestmark = pytest.mark.django_db
CHAT, EMBEDDINGS = "/v1/chat/completions", "/v1/embeddings"
REQUESTS = 50_000
INPUTS = 50_000
LINE_BYTES = 6_291_456
ERRORS = 1_000


@pytest.fixture
def owner() -> Tenant:
    ServedModelFactory(name="m", endpoints=[CHAT, EMBEDDINGS])
    PriceFactory(model_name="m")
    return Tenant("owner")


def line(custom_id: object = "a", url: str = CHAT, **body: object) -> bytes:
    content = {"custom_id": custom_id, "method": "POST", "url": url, "body": {"model": "m", **body}}
    return json.dumps(content, ensure_ascii=False).encode()


def line_of(size: int, filler: str) -> bytes:
    room = size - len(line(x=""))
    count, rest = divmod(room, len(filler.encode()))
    made = line(x=filler * count + "." * rest)
    assert len(made) == size
    return made


def validated(owner: Tenant, content: bytes, endpoint: str = CHAT) -> dict[str, Any]:
    """The batch as the tenant sees it."""
    file = owner.upload(content).json()["id"]
    public_id = owner.create_batch(input_file_id=file, endpoint=endpoint).json()["id"]
    jobs.validate(batch_id=Batch.objects.get(public_id=public_id).pk)
    batch: dict[str, Any] = owner.get(f"batches/{public_id}").json()
    return batch


def errors(batch: dict[str, Any]) -> list[tuple[str, str | None, int | None]]:
    assert (batch["status"] == "failed") == (batch["errors"] is not None)
    return [(error["code"], error["param"], error["line"]) for error in (batch["errors"] or {"data": []})["data"]]


@pytest.mark.parametrize("requests", [REQUESTS - 1, REQUESTS])
def test_requests_up_to_the_limit(owner: Tenant, requests: int) -> None:
    """V11: 50,000 requests."""
    batch = validated(owner, b"\n".join(map(line, map(str, range(requests)))))
    assert errors(batch) == []
    assert (batch["status"], batch["request_counts"]["total"]) == ("in_progress", requests)


def test_one_request_too_many(owner: Tenant) -> None:
    """V11: blank lines are none; the line that is one too many says so."""
    batch = validated(owner, b"\n\n" + b"\n".join(map(line, map(str, range(REQUESTS + 1)))))
    assert errors(batch) == [("too_many_requests", None, REQUESTS + 3)]
    assert "50,000" in batch["errors"]["data"][0]["message"]


@pytest.mark.parametrize(("filler", "end"), [("a", b""), ("今", b"\n"), ("😀", b"\r\n")])
def test_a_line_up_to_the_limit(owner: Tenant, filler: str, end: bytes) -> None:
    """V9: 6,291,456 bytes, not characters, and without the line's end."""
    assert errors(validated(owner, line_of(LINE_BYTES - 1, filler) + end)) == []
    assert errors(validated(owner, line_of(LINE_BYTES, filler) + end)) == []
    batch = validated(owner, line_of(LINE_BYTES + 1, filler) + end)
    assert errors(batch) == [("line_too_large", None, 1)]
    assert "6,291,457 bytes. Supported are at most 6,291,456." in batch["errors"]["data"][0]["message"]


@pytest.mark.parametrize("inputs", [INPUTS - 1, INPUTS, INPUTS + 1])
def test_inputs_up_to_the_limit(owner: Tenant, inputs: int) -> None:
    """V9: 50,000 inputs in all lines together, a list of tokens being one of them."""
    lines = [
        line("texts", EMBEDDINGS, input=["x"] * (inputs - 3)),
        line("tokens", EMBEDDINGS, input=[1, 2, 3]),
        line("text", EMBEDDINGS, input="x"),
        line("lists", EMBEDDINGS, input=[[1, 2]]),
    ]
    expected = [("too_many_inputs", "body.input", 4)] if inputs > INPUTS else []
    assert errors(validated(owner, b"\n".join(lines), EMBEDDINGS)) == expected


@pytest.mark.parametrize("filler", ["a", "今"])
@pytest.mark.parametrize("more", [-1, 0, 1])
def test_a_body_up_to_the_models_context(owner: Tenant, filler: str, more: int) -> None:
    """V10: 16 bytes of the body for each token that fits."""
    ServedModelFactory(name="small", endpoints=[CHAT], context_tokens=100)
    PriceFactory(model_name="small")
    body = {"model": "small", "x": ""}
    room = 1_600 + more - len(json.dumps(body))
    body["x"] = filler * (room // len(filler.encode())) + "." * (room % len(filler.encode()))
    expected = [("context_length_exceeded", "body", 1)] if more > 0 else []
    assert errors(validated(owner, line(**body))) == expected


@pytest.mark.parametrize("mistakes", [ERRORS - 1, ERRORS, ERRORS + 1])
def test_mistakes_up_to_the_limit(owner: Tenant, mistakes: int) -> None:
    """V11: the first 1,000 violations, in file order."""
    batch = validated(owner, b"\n".join([b"{"] * mistakes + [line()]))
    assert errors(batch) == [("invalid_json_line", None, n + 1) for n in range(min(mistakes, ERRORS))]


def test_a_line_with_several_mistakes_at_the_limit(owner: Tenant) -> None:
    """V11: what is over the limit on the last line is left out too."""
    batch = validated(owner, b"\n".join([b"{"] * (ERRORS - 1) + [line(7, "/v1/x", model="none")]))
    assert errors(batch)[-2:] == [("invalid_json_line", None, ERRORS - 1), ("invalid_type", "custom_id", ERRORS)]
    assert len(errors(batch)) == ERRORS


@pytest.mark.parametrize("spare", [1, 0, -1])
def test_tokens_up_to_the_accounts_limit(owner: Tenant, spare: int) -> None:
    """V12: what is enqueued for the model with the new batch's may be the limit, not more."""
    content = line(x="a" * 1_000)
    validated(owner, content)
    tokens = Batch.objects.get().enqueued_tokens
    assert tokens > 250
    EnqueuedTokenLimit.objects.create(account=owner.account, model_name="m", tokens=2 * tokens + spare)
    batch = validated(owner, content)
    assert errors(batch) == ([("token_limit_exceeded", None, None)] if spare < 0 else [])


def test_tokens_of_ended_batches_and_of_other_accounts_do_not_count(owner: Tenant) -> None:
    """V12: enqueued is what has not ended."""
    content, stranger = line(x="a" * 1_000), Tenant("stranger")
    tokens = Batch.objects.get(public_id=validated(stranger, content)["id"]).enqueued_tokens
    EnqueuedTokenLimit.objects.create(account=owner.account, model_name="m", tokens=tokens)
    first = validated(owner, content)
    assert errors(validated(owner, content)) == [("token_limit_exceeded", None, None)]
    Batch.objects.filter(public_id=first["id"]).update(status="completed")
    assert errors(validated(owner, content)) == []


def cancelled(owner: Tenant) -> dict[str, Any]:
    """A batch of two lines, of which the first has succeeded."""
    made = validated(owner, line("1") + b"\n" + line("2"))
    batch = Batch.objects.get(public_id=made["id"])
    text = results.result_line("1", results.Outcome(200, None, b"{}"))
    index = results.pack_index([results.IndexEntry(line=1, failed=False, length=len(text))])
    blob = blobs.write("checkpoints/x", text)
    Checkpoint.objects.create(batch=batch, blob=blob, index=index, first_line=1, last_line=1, lane_token=1)
    owner.post(f"batches/{batch.public_id}/cancel")
    jobs.finalize(batch_id=batch.pk)
    ended: dict[str, Any] = owner.get(f"batches/{batch.public_id}").json()
    assert ended["status"] == "cancelled"
    return ended


def test_result_files(owner: Tenant) -> None:
    """F3, F4: their ids, with 96 random bits at least, names and purpose; they are in the list too."""
    batch = cancelled(owner)
    listed = {file["id"]: file for file in owner.get("files", {"purpose": "batch_output"}).json()["data"]}
    assert set(listed) == {batch["output_file_id"], batch["error_file_id"]}
    for kind in ("output", "error"):
        file = listed[batch[f"{kind}_file_id"]]
        assert len(bytes.fromhex(file["id"].removeprefix("file-batch_output-"))) >= 12
        assert (file["filename"], file["purpose"]) == (f"{batch['id']}_{kind}.jsonl", "batch_output")


@pytest.mark.parametrize("limits", [{"max_files": 1}, {"max_bytes": 200}])
def test_results_are_written_past_the_quota(
    owner: Tenant, limits: dict[str, int], django_capture_on_commit_callbacks: Any
) -> None:
    """F9: and count; then new uploads wait until enough is deleted."""
    Account.objects.filter(pk=owner.account.pk).update(**limits)
    batch = cancelled(owner)
    rows = StoredFile.objects.filter(account=owner.account)
    use = StorageUse.objects.get(account=owner.account)
    assert (use.files, use.bytes) == (rows.count(), sum(rows.values_list("bytes", flat=True)))
    assert use.files == 3
    assert use.bytes > 400
    assert error_of(owner.upload(), 403)["code"] == "quota_exceeded"
    for kind in ("output", "error", "input"):
        error_of(owner.upload(LINE), 403)
        with django_capture_on_commit_callbacks(execute=True):  # there the bytes go
            owner.delete(f"files/{batch[f'{kind}_file_id']}")
    assert owner.upload(LINE).status_code == 200


@pytest.mark.parametrize(("age", "status"), [(-1, 200), (0, 200), (1, 404)])
def test_batches_of_the_last_30_days(owner: Tenant, age: int, status: int) -> None:
    """B6: to the microsecond, for retrieving and for cancelling."""
    now = timezone.now()
    batch = owner.has_batch(created_at=now - timedelta(days=30, microseconds=age))
    with patch("django.utils.timezone.now", return_value=now):
        assert owner.get(f"batches/{batch.public_id}").status_code == status
        assert owner.post(f"batches/{batch.public_id}/cancel").status_code == status
