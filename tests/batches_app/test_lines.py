"""The lines of a batch, wherever they lie: in checkpoints while it runs, in its files when it has ended."""

import json
import tracemalloc
from typing import Any

import pytest

from batches_app import error_groups, lines, results
from batches_app.lines import CutOff, Gone
from batches_app.models import Batch, Checkpoint
from batches_app.results import IndexEntry, Outcome
from batches_app.states import Status
from files_app import blobs, retention
from files_app.models import StoredFile
from tests.factories import ServedModelFactory, ShardFactory
from tests.tenants import Tenant

pytestmark = pytest.mark.django_db
GOOD = Outcome(200, "r", b'{"ok": true}')
LONG = Outcome(400, "r", b'{"error": {"code": "context_length_exceeded", "message": "too long"}}')
SILENT = Outcome(None, None, b"", "timeout", "No answer.")
ODD = 'quote " back\\slash 你好 \u202e <script>'


def request(custom_id: str, content: str = "hi") -> bytes:
    return json.dumps({"custom_id": custom_id, "body": {"content": content}}, ensure_ascii=False).encode() + b"\n"


def ended(tenant: Tenant, outcomes: dict[str, Outcome], **columns: Any) -> Batch:
    output = b"".join(results.result_line(name, one) for name, one in outcomes.items() if one.succeeded)
    failed = [results.result_line(name, one) for name, one in outcomes.items() if not one.succeeded]
    facts: dict[str, Any] = {"status": Status.COMPLETED, "total": len(outcomes), "failed": len(failed)}
    facts |= {"input_file_id": tenant.has_file(b"".join(map(request, outcomes))).public_id}
    if output:
        facts |= {"output_file_id": tenant.has_result(output).public_id}
    if failed:
        facts |= {"error_file_id": tenant.has_result(b"".join(failed)).public_id}
    batch = tenant.has_batch(**(facts | columns))
    error_groups.add(batch.pk, error_groups.found_in(enumerate(failed, 1)))
    return batch


def running(tenant: Tenant, outcomes: dict[str, Outcome | None]) -> Batch:
    """Each result in a checkpoint of its own, the last line's first; None: no result yet."""
    file = tenant.has_file(b"".join(map(request, outcomes)))
    batch = tenant.has_batch(status=Status.IN_PROGRESS, total=len(outcomes), source=file)
    model = ServedModelFactory()
    ShardFactory(
        batch=batch,
        model=model,
        account=tenant.account,
        deadline=batch.expires_at,
        first_line=1,
        last_line=len(outcomes),
        offset=0,
        size=file.bytes,
    )
    for number, (name, outcome) in reversed(list(enumerate(outcomes.items(), 1))):
        if outcome is not None:
            text = results.result_line(name, outcome)
            index = results.pack_index([IndexEntry(number, not outcome.succeeded, len(text))])
            blob = blobs.write("checkpoints/x", text)
            Checkpoint.objects.create(
                batch=batch, blob=blob, index=index, first_line=number, last_line=number, lane_token=1
            )
    return batch


def names(found: lines.Listed) -> list[str]:
    return [line.custom_id for line in found.lines]


@pytest.fixture
def tenant() -> Tenant:
    return Tenant("acme")


@pytest.mark.parametrize("make", [ended, running])
def test_lines_are_listed_by_how_they_ended_in_input_order(tenant: Tenant, make: Any) -> None:
    batch = make(tenant, {"a": GOOD, "b": LONG, "c": SILENT, ODD: GOOD})
    assert names(lines.listed(batch, "succeeded", "", "")) == ["a", ODD]
    failed = lines.listed(batch, "failed", "", "").lines
    assert [(line.custom_id, line.status, line.code) for line in failed] == [
        ("b", 400, "http_400 context_length_exceeded"),
        ("c", None, "timeout"),
    ]


@pytest.mark.parametrize("make", [ended, running])
def test_pages_follow_one_another_without_gap_or_repetition(tenant: Tenant, make: Any) -> None:
    batch = make(tenant, {str(n): GOOD for n in range(120)})
    seen, after = [], ""
    for _ in range(3):
        found = lines.listed(batch, "succeeded", "", after)
        seen += names(found)
        after = found.next
    assert seen == [str(n) for n in range(120)]
    assert not after


def test_lines_of_one_code_are_those_of_its_group_and_other_has_the_rest(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(error_groups, "MOST_GROUPS", 2)
    outcomes = {str(n): Outcome(400 + n, "r", b"no") for n in range(4)}
    batch = ended(tenant, outcomes)
    assert names(lines.listed(batch, "failed", "http_400", "")) == ["0"]
    assert names(lines.listed(batch, "failed", "other", "")) == ["1", "2", "3"]


def test_a_search_that_takes_too_long_says_where_it_stopped(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "SECONDS", -1.0)
    batch = ended(tenant, {"a": LONG, "b": LONG})
    found = lines.listed(batch, "failed", "timeout", "")
    assert (found.lines, found.is_cut_off) == ([], True)
    assert found.next
    with pytest.raises(CutOff):
        lines.find(batch, "b")


@pytest.mark.parametrize("make", [ended, running])
@pytest.mark.parametrize("wanted", ["a", "c", ODD])
def test_a_line_is_found_by_its_custom_id_with_request_and_result(tenant: Tenant, make: Any, wanted: str) -> None:
    batch = make(tenant, {"a": GOOD, "aa": GOOD, "c": LONG, ODD: GOOD})
    key = lines.find(batch, wanted)
    assert key
    result = lines.result(batch, key)
    assert result
    assert lines.told(result.read(10_000))[0] == wanted
    asked = lines.request(batch, wanted, key)
    assert asked
    assert asked.place
    assert json.loads(asked.place.read(10_000))["custom_id"] == wanted


@pytest.mark.parametrize("make", [ended, running])
def test_no_line_has_a_custom_id_that_only_begins_so(tenant: Tenant, make: Any) -> None:
    assert lines.find(make(tenant, {"abc": GOOD}), "ab") is None


def test_a_line_without_a_result_yet_is_found_and_has_none(tenant: Tenant) -> None:
    batch = running(tenant, {"a": GOOD, "b": None})
    key = lines.find(batch, "b")
    assert key == "l2"
    assert lines.result(batch, key) is None
    asked = lines.request(batch, "", key)
    assert asked
    assert asked.number == 2


def test_a_key_from_before_the_end_of_the_batch_is_not_mistaken(tenant: Tenant) -> None:
    batch = ended(tenant, {"a": GOOD})
    with pytest.raises(Gone):
        lines.result(batch, "l1")
    with pytest.raises(Gone):
        lines.listed(batch, "succeeded", "", "l1")


@pytest.mark.parametrize("key", ["o3", "o999999", "e0", "x1", "o", "l99999999999999999999"])
def test_a_key_that_is_none_leads_nowhere(tenant: Tenant, key: str) -> None:
    with pytest.raises(Gone):
        lines.result(ended(tenant, {"a": GOOD}), key)


def test_lines_of_a_file_that_is_gone_are_gone_too(tenant: Tenant) -> None:
    batch = ended(tenant, {"a": GOOD})
    retention.discard(StoredFile.objects.get(public_id=batch.output_file_id).blob)
    with pytest.raises(Gone):
        lines.listed(batch, "succeeded", "", "")
    StoredFile.objects.all().delete()
    assert lines.request(batch, "a", "o0") is None
    with pytest.raises(Gone):
        lines.result(batch, "o0")


def test_long_lines_are_listed_without_being_held_in_memory(tenant: Tenant) -> None:
    long = Outcome(200, "r", b'{"text": "%b"}' % (b"x" * 8_000_000))
    batch = ended(tenant, {"a": long, "b": long, "c": long})
    tracemalloc.start()
    found = lines.listed(batch, "succeeded", "", "")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert names(found) == ["a", "b", "c"]
    assert found.lines[1].size > 8_000_000
    assert peak < 4_000_000
