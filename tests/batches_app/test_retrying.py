"""The failed lines of a batch as a new batch: exactly these, and only once."""

import itertools
import json
import tracemalloc
from datetime import timedelta
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import default_storage
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from batches_app import error_groups, operations, results, retrying, validation
from batches_app.models import Batch, Operation, ServedModel
from batches_app.results import ErrorCode, Outcome
from batches_app.retrying import CannotRetry, Obstacle
from batches_app.states import Status
from billing_app import api_keys, ledger
from billing_app.models import Account, AuditEntry, StorageUse
from files_app import blobs, retention, uploads
from files_app.models import StoredFile
from tests.factories import PriceFactory, ServedModelFactory
from tests.tenants import Tenant
from tests.threads import at_once

OLGA = {"actor": "olga", "address": "10.0.0.7"}
BOM = b"\xef\xbb\xbf"
State = Operation.State
TOO_LONG = Outcome(400, "r", b'{"error": {"code": "context_length_exceeded", "message": "too long"}}')
BROKEN = Outcome(500, "r", b"Internal Server Error")
SILENT = Outcome(None, None, b"", ErrorCode.TIMEOUT, "No answer.")
CANCELLED = Outcome(None, None, b"", ErrorCode.BATCH_CANCELLED, "Cancelled.")


def request(custom_id: str, content: str = "hi") -> bytes:
    body = {"model": "m", "messages": [{"role": "user", "content": content}]}
    line = {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}
    return json.dumps(line, ensure_ascii=False).encode()


@pytest.fixture
def tenant() -> Tenant:
    ServedModelFactory(name="m")
    PriceFactory(model_name="m", input_price=Decimal(1), output_price=Decimal(2))
    return Tenant("acme")


def ended(tenant: Tenant, requests: bytes, failures: dict[str, Outcome], **columns: Any) -> Batch:
    """A batch of which these requests failed, in the order in which the input has them."""
    lines = [results.result_line(custom_id, outcome) for custom_id, outcome in failures.items()]
    source, errors = tenant.has_file(requests), tenant.has_result(b"".join(lines), "batch_1_error.jsonl")
    total = sum(1 for line in requests.splitlines() if line.strip())
    facts: dict[str, Any] = {
        "status": Status.COMPLETED,
        "model_name": "m",
        "total": total,
        "completed": total - len(lines),
    }
    facts |= {"failed": len(lines), "input_file_id": source.public_id, "error_file_id": errors.public_id}
    batch = tenant.has_batch(api_key=tenant.api_key, **(facts | columns))
    error_groups.add(batch.pk, error_groups.found_in(enumerate(lines, 1)))
    return batch


def retry(batch: Batch, code: str = "") -> Operation:
    operation = operations.draft_retry(batch, code, by=OLGA, now=timezone.now())
    assert operations.start(operation, "upstream was down", by=OLGA, now=timezone.now())
    operations.carry_out(operation.pk)
    operation.refresh_from_db()
    return operation


def new_input(operation: Operation) -> bytes:
    assert (operation.state, operation.problems) == (State.DONE, [])
    assert operation.result is not None
    file = StoredFile.objects.get(public_id=operation.result.input_file_id)
    return blobs.read_range(file.blob, 0, file.bytes + 1)


# Which lines


@pytest.mark.django_db
def test_the_lines_of_one_code_are_the_same_bytes_in_the_same_order(tenant: Tenant) -> None:
    """Whatever JSON allows: spaces, escapes, members of the tenant's own, line ends of two kinds, a BOM, blank lines
    and no line end at the end."""
    lines = [
        request("a"),
        b' { "body" : {"model":"m","messages":[],"x":1.0e2} , "custom_id":"b\\u00e9","url":"/v1/chat/completions"}',
        request("c\u4e2d\u6587"),
        request("d"),
        request("e", "last"),
    ]
    content = BOM + lines[0] + b"\r\n\n" + lines[1] + b"\r\n  \n" + lines[2] + b"\n" + lines[3] + b"\n" + lines[4]
    batch = ended(tenant, content, {"a": TOO_LONG, "b\u00e9": TOO_LONG, "c\u4e2d\u6587": BROKEN, "e": TOO_LONG})
    operation = retry(batch, "http_400 context_length_exceeded")
    assert new_input(operation) == lines[0] + b"\r\n" + lines[1] + b"\r\n" + lines[4]
    assert new_input(retry(batch, "http_500")) == lines[2] + b"\n"
    assert operation.total == operation.position == operation.changed == 3


@pytest.mark.django_db
def test_all_failed_lines_are_those_of_the_error_file_with_those_never_finished(tenant: Tenant) -> None:
    lines = [request(name) + b"\n" for name in "abcd"]
    batch = ended(tenant, b"".join(lines), {"a": SILENT, "c": CANCELLED, "d": CANCELLED}, status=Status.CANCELLED)
    assert new_input(retry(batch)) == lines[0] + lines[2] + lines[3]
    assert new_input(retry(batch, ErrorCode.BATCH_CANCELLED)) == lines[2] + lines[3]


@pytest.mark.django_db
def test_the_lines_of_rare_codes_are_those_counted_as_other(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(error_groups, "MOST_GROUPS", 3)
    statuses = {"a": 401, "b": 402, "c": 403, "d": 404, "e": 401, "f": 403}
    lines = {name: request(name) + b"\n" for name in statuses}
    failures = {name: Outcome(status, "r", b"{}") for name, status in statuses.items()}
    batch = ended(tenant, b"".join(lines.values()), failures)
    assert dict(batch.error_groups.values_list("code", "count")) == {"http_401": 2, "http_402": 1, "other": 3}
    assert new_input(retry(batch, error_groups.OTHER)) == lines["c"] + lines["d"] + lines["f"]
    assert new_input(retry(batch, "http_401")) == lines["a"] + lines["e"]


LETTERS = st.characters(codec="utf-8", exclude_characters="\0")  # V5
NAMES = st.lists(st.text(LETTERS, min_size=1, max_size=8), min_size=1, max_size=12, unique=True)
ENDS = st.sampled_from([b"\n", b"\r\n", b"\n\n", b"\r\n \t\n"])


@given(names=NAMES, data=st.data())
def test_whatever_failed_comes_out(names: list[str], data: Any) -> None:
    lines = [json.dumps({"custom_id": name}, ensure_ascii=data.draw(st.booleans())).encode() for name in names]
    ends = [data.draw(ENDS) for _ in lines]
    ends[-1] = data.draw(ENDS | st.just(b""))
    failed = data.draw(st.sets(st.sampled_from(range(len(names))), min_size=1))
    requests = data.draw(st.sampled_from([b"", BOM])) + b"".join(map(bytes.__add__, lines, ends))
    errors = b"".join(results.result_line(names[number], BROKEN) for number in sorted(failed))
    found = list(retrying.failed_lines(_file(requests), _file(errors), lambda line: True))
    whole = [line + end[: end.find(b"\n") + 1] for line, end in zip(lines, ends, strict=True)]
    assert found == [whole[number] for number in sorted(failed)]


def test_lines_that_the_input_does_not_have_are_refused() -> None:
    errors = results.result_line("a", BROKEN) + results.result_line("z", BROKEN)
    with pytest.raises(CannotRetry) as refused:
        list(retrying.failed_lines(_file(request("a") + b"\n" + request("b")), _file(errors), lambda line: True))
    assert refused.value.why == Obstacle.MISMATCH


def test_a_body_nested_as_deeply_as_a_validator_lets_pass() -> None:
    deep = request("a")[:-1] + b',"x":' + b"[" * 900 + b"]" * 900 + b"}\n"
    errors = results.result_line("a", BROKEN)

    def find_beneath(frames: int) -> list[bytes]:
        if frames:
            return find_beneath(frames - 1)
        return list(retrying.failed_lines(_file(deep), _file(errors), lambda line: True))

    assert find_beneath(200) == [deep]


def test_memory_does_not_grow_with_the_files(tmp_path: Path) -> None:
    """Promise 4, for two files of 12 MB."""
    long = "x" * 20_000
    requests, errors = tmp_path / "requests", tmp_path / "errors"
    failure = Outcome(500, "r", json.dumps({"error": long}).encode())
    with requests.open("wb") as file, errors.open("wb") as failures:
        for number in range(600):
            file.write(request(str(number), long) + b"\n")
            failures.write(results.result_line(str(number), failure))
    tracemalloc.start()
    with requests.open("rb") as file, errors.open("rb") as failures:
        copied = sum(len(line) for line in retrying.failed_lines(file, failures, lambda line: True))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert copied == requests.stat().st_size
    assert peak < 3 * 1024 * 1024


# The new batch


@pytest.mark.django_db
def test_it_is_the_parent_s_but_for_its_lines(tenant: Tenant) -> None:
    window = timedelta(hours=48)
    created = timezone.now() - timedelta(days=10)
    batch = ended(
        tenant,
        request("a") + b"\n" + request("b"),
        {"b": BROKEN},
        metadata={"ds_name": "nightly", "k": "v"},
        completion_window="48h",
        output_expires_after=7200,
        created_at=created,
        name="nightly",
    )
    Batch.objects.filter(pk=batch.pk).update(expires_at=created + window)
    batch.refresh_from_db()
    result = retry(batch, "http_500").result
    assert result is not None
    assert (result.parent, result.retried_code, result.account, result.api_key) == (
        batch,
        "http_500",
        tenant.account,
        tenant.api_key,
    )
    assert (result.endpoint, result.completion_window, result.name) == (batch.endpoint, "48h", "nightly")
    assert (result.metadata, result.output_expires_after) == (batch.metadata, 7200)
    assert result.expires_at - result.created_at == window
    validation.validate(result.pk)
    result.refresh_from_db()
    assert (result.status, result.total) == (Status.IN_PROGRESS, 1)


@pytest.mark.django_db
def test_its_input_is_a_file_of_the_account_that_counts_like_an_upload(tenant: Tenant) -> None:
    batch = ended(tenant, request("a") + b"\n" + request("b") + b"\n", {"b": BROKEN})
    before = StorageUse.objects.get()
    operation = retry(batch)
    content = new_input(operation)
    assert operation.result is not None
    file = operation.result.source
    assert file is not None
    assert (file.account, file.purpose, file.filename) == (tenant.account, "batch", f"{batch.public_id}_retry.jsonl")
    assert (file.bytes, file.expires_at) == (len(content), None)
    after = StorageUse.objects.get()
    assert (after.files, after.bytes) == (before.files + 1, before.bytes + len(content))
    assert (after.pending_files, after.pending_bytes) == (0, 0)


@pytest.mark.django_db
def test_its_input_is_kept_as_long_as_the_parent_s(tenant: Tenant) -> None:
    batch = ended(tenant, request("a"), {"a": BROKEN})
    source = StoredFile.objects.get(public_id=batch.input_file_id)
    source.expires_at = source.created_at + timedelta(hours=5)
    source.save()
    result = retry(batch).result
    assert result is not None
    assert result.source is not None
    assert result.source.expires_at == result.source.created_at + timedelta(hours=5)


@pytest.mark.django_db
@pytest.mark.parametrize("fate", ["revoked", "expired"])
def test_a_key_that_is_no_more_starts_nothing(tenant: Tenant, fate: str) -> None:
    batch = ended(tenant, request("a"), {"a": BROKEN})
    if fate == "revoked":
        api_keys.revoke(tenant.api_key, now=timezone.now())
    else:
        type(tenant.api_key).objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    result = retry(Batch.objects.get(pk=batch.pk)).result
    assert result is not None
    assert result.api_key is None


@pytest.mark.django_db
def test_it_is_audited_with_who_and_why(tenant: Tenant) -> None:
    batch = ended(tenant, request("a"), {"a": BROKEN})
    result = retry(batch, "http_500").result
    assert result is not None
    entry = AuditEntry.objects.get(action="batch.retried")
    assert (entry.actor, entry.address, entry.account) == ("olga", "10.0.0.7", "acme")
    assert entry.reason == "upstream was down"
    assert entry.changes == {"retry": [None, result.public_id], "code": [None, "http_500"]}
    assert AuditEntry.objects.get(action="operation.done").changes == {"lines": [None, 1]}


@pytest.mark.django_db
def test_the_forecast_is_what_the_others_used(tenant: Tenant) -> None:
    columns = {"input_tokens": 1_000_000, "output_tokens": 500_000}
    batch = ended(tenant, b"\n".join(request(name) for name in "abcd"), {"c": BROKEN, "d": BROKEN}, **columns)
    now = timezone.now()
    assert retrying.forecast(batch, 1, now=now) == Decimal("0.5")  # half of the real-time price
    batch.completed = 0
    assert retrying.forecast(batch, 1, now=now) is None


# Once


@pytest.mark.django_db(transaction=True)
def test_two_deliveries_make_one_batch_and_one_file(tenant: Tenant) -> None:
    batch = ended(tenant, request("a"), {"a": BROKEN})
    operation = operations.draft_retry(batch, "", by=OLGA, now=timezone.now())
    operations.start(operation, "why", by=OLGA, now=timezone.now())
    at_once([lambda: operations.carry_out(operation.pk)] * 3)
    _made_once(batch)


@pytest.mark.django_db(transaction=True)
def test_two_that_both_believe_to_hold_it_make_one_batch_and_one_file(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first is stopped between its bytes and its rows until the second is through."""
    batch = ended(tenant, request("a"), {"a": BROKEN})
    operation = operations.draft_retry(batch, "", by=OLGA, now=timezone.now())
    operations.start(operation, "why", by=OLGA, now=timezone.now())
    write, written, turns = uploads.write_blob, list[str](), itertools.count()

    def overtaken(upload: Any, **given: Any) -> str:
        if next(turns) == 0:
            Operation.objects.update(lease_expires_at=timezone.now() - timedelta(seconds=1))
            operations.carry_out(operation.pk)
        written.append(write(upload, **given))
        return written[-1]

    monkeypatch.setattr(uploads, "write_blob", overtaken)
    operations.carry_out(operation.pk)
    assert len(written) == 2
    _made_once(batch)
    assert [default_storage.exists(blob) for blob in written] == [True, False]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("at", ["uploads.write_blob", "uploads.insert", "lifecycle.create"])
def test_killed_anywhere_it_makes_one_batch_and_one_file(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    batch = ended(tenant, request("a"), {"a": BROKEN})
    operation = operations.draft_retry(batch, "", by=OLGA, now=timezone.now())
    operations.start(operation, "why", by=OLGA, now=timezone.now())
    before = _names()
    with monkeypatch.context() as patch:
        patch.setattr(f"batches_app.retrying.{at}", _killed_after(at))
        with pytest.raises(SystemExit):
            operations.carry_out(operation.pk)
    assert (batch.retries.count(), _inputs().count()) == (0, 1)
    operations.carry_out(operation.pk)
    assert batch.retries.count() == 0  # the lease of who was killed still runs
    Operation.objects.update(lease_expires_at=timezone.now() - timedelta(seconds=1))
    operations.carry_out(operation.pk)
    _made_once(batch)
    retention.sweep_orphans(timezone.now() + timedelta(days=1))
    assert _names() - before == {_inputs().latest("id").blob}


def _made_once(batch: Batch) -> None:
    operation = Operation.objects.get()
    assert (operation.state, operation.result) == (State.DONE, batch.retries.get())
    kept = StorageUse.objects.get()
    assert (_inputs().count(), kept.files, kept.pending_files) == (2, StoredFile.objects.count(), 0)
    assert AuditEntry.objects.filter(action="batch.retried").count() == 1


def _names() -> set[str]:
    folder = f"{retention.FOLDER}/{timezone.now():%Y-%m-%d}"
    return {f"{folder}/{name}" for name in blobs.names_in(folder)}


def _inputs() -> Any:
    return StoredFile.objects.filter(purpose="batch")


def _killed_after(name: str) -> Any:
    module, function = name.split(".")
    real = getattr(getattr(retrying, module), function)

    def killed(*given: Any, **named: Any) -> Any:
        real(*given, **named)
        raise SystemExit

    return killed


@pytest.mark.django_db(transaction=True)
def test_aborted_while_it_copies_nothing_is_made_and_no_byte_stays(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = ended(tenant, request("a"), {"a": BROKEN})
    operation = operations.draft_retry(batch, "", by=OLGA, now=timezone.now())
    operations.start(operation, "why", by=OLGA, now=timezone.now())
    write, written = uploads.write_blob, list[str]()

    def aborted(upload: Any, **given: Any) -> str:
        operations.abort(operation, by=OLGA, now=timezone.now())
        written.append(write(upload, **given))
        return written[0]

    monkeypatch.setattr(uploads, "write_blob", aborted)
    operations.carry_out(operation.pk)
    assert (Operation.objects.get().state, batch.retries.count(), _inputs().count()) == (State.ABORTED, 0, 1)
    assert not default_storage.exists(written[0])
    assert StorageUse.objects.get().pending_files == 0


@pytest.mark.django_db
def test_it_says_how_far_it_is_and_stops_within_a_second_of_an_abort(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrying, "TICK", -1.0)
    lines = [request(str(number)) for number in range(10)]
    batch = ended(tenant, b"\n".join(lines), {str(number): BROKEN for number in range(10)})
    operation = operations.draft_retry(batch, "", by=OLGA, now=timezone.now())
    Operation.objects.update(state=State.RUNNING)
    seen: list[int] = []
    custom_id_of = results.custom_id_of

    def watch(line: bytes) -> str:
        seen.append(Operation.objects.get().position)
        if len(seen) == 5:
            operations.abort(operation, by=OLGA, now=timezone.now())
        return custom_id_of(line)

    monkeypatch.setattr(results, "custom_id_of", watch)
    operations.carry_out(operation.pk)
    assert seen == [0, 1, 2, 3, 4]
    assert Operation.objects.get().state == State.ABORTED


# What stands in the way


def _disable_account(batch: Batch) -> None:
    Account.objects.update(is_enabled=False)


def _run_on(batch: Batch) -> None:
    Batch.objects.update(status=Status.FINALIZING)


def _fail_validation(batch: Batch) -> None:
    Batch.objects.update(status=Status.FAILED, total=0, completed=0, failed=0)


def _take_price(batch: Batch) -> None:
    ServedModelFactory(name="n")
    Batch.objects.update(model_name="n")


def _delete(file_id: str) -> None:
    retention.delete_file(StoredFile.objects.get(public_id=file_id), now=timezone.now())


OBSTACLES: dict[str, tuple[Any, str]] = {
    "disabled": (_disable_account, "account is disabled"),
    "running": (_run_on, "not ended yet"),
    "invalid": (_fail_validation, "did not pass validation"),
    "input": (lambda batch: _delete(batch.input_file_id), "input file was deleted or has expired"),
    "errors": (lambda batch: _delete(batch.error_file_id), "error file was deleted or has expired"),
    "model": (lambda batch: ServedModel.objects.update(is_enabled=False), "model takes no new batches"),
    "endpoint": (lambda batch: ServedModel.objects.update(endpoints=["/v1/embeddings"]), "model takes no new batches"),
    "price": (_take_price, "no price in force"),
    "quota": (lambda batch: Account.objects.update(max_files=2), "limit of files or of bytes"),
    "bytes": (lambda batch: Account.objects.update(max_bytes=1), "limit of files or of bytes"),
    "active": (lambda batch: Account.objects.update(max_active_batches=0), "as many batches under way as it may"),
    "credit": (lambda batch: ledger.set_prepaid(batch.account_id, True), "is used up"),
    "budget": (lambda batch: Account.objects.update(monthly_budget=0, budget_is_hard=True), "is used up"),
    "key": (lambda batch: type(batch.api_key).objects.update(monthly_limit=0), "is used up"),
}
WHILE_COPYING = ("quota", "bytes")  # how much room it takes is known then


@pytest.mark.django_db
@pytest.mark.parametrize("name", [name for name in OBSTACLES if name not in WHILE_COPYING])
def test_no_draft_of_what_cannot_be(tenant: Tenant, name: str) -> None:
    batch = ended(tenant, request("a"), {"a": BROKEN})
    change, sentence = OBSTACLES[name]
    change(batch)
    with pytest.raises(CannotRetry) as refused:
        operations.draft_retry(_fresh(batch), "", by=OLGA, now=timezone.now())
    assert sentence in str(retrying.sentence(refused.value.why))


@pytest.mark.django_db
@pytest.mark.parametrize("name", OBSTACLES)
def test_what_comes_in_the_way_after_the_confirmation_is_said(tenant: Tenant, name: str) -> None:
    batch = ended(tenant, request("a"), {"a": BROKEN})
    operation = operations.draft_retry(batch, "", by=OLGA, now=timezone.now())
    change, sentence = OBSTACLES[name]
    change(batch)
    operations.start(operation, "why", by=OLGA, now=timezone.now())
    operations.carry_out(operation.pk)
    operation.refresh_from_db()
    assert (operation.state, operation.result, batch.retries.count()) == (State.FAILED, None, 0)
    ((batch_id, why),) = operation.problems
    assert (batch_id, sentence in str(retrying.sentence(why))) == (batch.public_id, True)
    assert AuditEntry.objects.get(action="operation.failed").changes == {"why": [None, why]}
    assert (StorageUse.objects.get().pending_files, Batch.objects.count()) == (0, 1)


@pytest.mark.django_db
def test_an_account_that_fills_up_in_the_last_moment_is_refused_whole(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the room that was reserved and the rows: nothing of it stays."""
    batch = ended(tenant, request("a"), {"a": BROKEN})
    operation = operations.draft_retry(batch, "", by=OLGA, now=timezone.now())
    write, written = uploads.write_blob, list[str]()

    def shrunk(upload: Any, **given: Any) -> str:
        Account.objects.update(max_files=0)
        written.append(write(upload, **given))
        return written[0]

    monkeypatch.setattr(uploads, "write_blob", shrunk)
    operations.start(operation, "why", by=OLGA, now=timezone.now())
    operations.carry_out(operation.pk)
    operation.refresh_from_db()
    assert (operation.state, batch.retries.count(), _inputs().count()) == (State.FAILED, 0, 1)
    assert operation.problems == [[batch.public_id, Obstacle.NO_ROOM]]
    assert not default_storage.exists(written[0])


@pytest.mark.django_db
def test_without_a_failed_line_there_is_nothing_to_retry(tenant: Tenant) -> None:
    batch = ended(tenant, request("a") + b"\n" + request("b"), {"a": BROKEN})
    with pytest.raises(CannotRetry) as refused:
        operations.draft_retry(batch, "http_404", by=OLGA, now=timezone.now())
    assert refused.value.why == Obstacle.NO_SUCH_LINES
    batch.completed = batch.total
    with pytest.raises(CannotRetry) as refused:
        operations.draft_retry(batch, "", by=OLGA, now=timezone.now())
    assert refused.value.why == Obstacle.NO_LINES


@pytest.mark.django_db
def test_a_file_of_another_account_is_never_read(tenant: Tenant) -> None:
    """Promise 3: whatever ids a row has."""
    other = Tenant("other").has_file(request("a"))
    batch = ended(tenant, request("a"), {"a": BROKEN})
    Batch.objects.filter(pk=batch.pk).update(input_file_id=other.public_id)
    with pytest.raises(CannotRetry) as refused:
        operations.draft_retry(_fresh(batch), "", by=OLGA, now=timezone.now())
    assert refused.value.why == Obstacle.NO_INPUT


def _fresh(batch: Batch) -> Batch:
    return Batch.objects.select_related("account", "api_key").get(pk=batch.pk)


def _file(content: bytes) -> BytesIO:
    return BytesIO(content)
