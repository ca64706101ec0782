"""The lines of a batch, wherever they lie: in checkpoints while it runs, in its files when it has ended."""

import json
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest

from batches_app import error_groups, lines, results
from batches_app.lines import CutOff, Gone, Kind
from batches_app.models import Batch, Checkpoint, Shard
from batches_app.results import IndexEntry, Outcome
from batches_app.states import Status
from files_app import blobs, retention
from files_app.models import StoredFile
from tests.factories import ServedModelFactory, ShardFactory
from tests.tenants import Tenant

pytestmark = pytest.mark.django_db
GOOD = Outcome(200, "req-7", b'{"ok": true}')
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


def running(tenant: Tenant, outcomes: dict[str, Outcome | None], per_shard: int = 3) -> Batch:
    """Each result in a checkpoint of its own, the last line's first; None: no result yet."""
    asked = list(map(request, outcomes))
    failures = sum(one is not None and not one.succeeded for one in outcomes.values())
    file = tenant.has_file(b"".join(asked))
    counts: dict[str, Any] = {"total": len(outcomes), "failed": failures}
    batch = tenant.has_batch(status=Status.IN_PROGRESS, source=file, input_file_id=file.public_id, **counts)
    model = ServedModelFactory()
    facts = {"batch": batch, "model": model, "account": tenant.account, "deadline": batch.expires_at}
    for first in range(0, len(asked), per_shard):
        mine = asked[first : first + per_shard]
        place = {"offset": len(b"".join(asked[:first])), "size": len(b"".join(mine))}
        is_done = all(list(outcomes.values())[first : first + per_shard])
        state = Shard.State.DONE if is_done else Shard.State.WAITING
        ShardFactory(first_line=first + 1, last_line=first + len(mine), state=state, **facts, **place)
    found = [
        (number, results.result_line(name, one), not one.succeeded)
        for number, (name, one) in enumerate(outcomes.items(), 1)
        if one is not None
    ]
    for number, text, failed in reversed(found):
        index = results.pack_index([IndexEntry(number, failed, len(text))])
        blob = blobs.write("checkpoints/x", text)
        Checkpoint.objects.create(
            batch=batch, blob=blob, index=index, first_line=number, last_line=number, lane_token=1
        )
    error_groups.add(batch.pk, error_groups.found_in((number, text) for number, text, failed in found if failed))
    return batch


def names(found: lines.Listed) -> list[str]:
    return [line.custom_id for line in found.lines]


def pages(batch: Batch, kind: Kind, code: str = "") -> Iterator[lines.Listed]:
    after = ""
    for _ in range(100):
        found = lines.listed(batch, kind, code, after)
        yield found
        after = found.next
        if not after:
            return
    raise AssertionError("The pages do not end.")


@pytest.fixture
def tenant() -> Tenant:
    return Tenant("acme")


both = pytest.mark.parametrize("make", [ended, running])


# Lists


@both
def test_lines_are_listed_by_how_they_ended_in_input_order(tenant: Tenant, make: Any) -> None:
    batch = make(tenant, {"a": GOOD, "b": LONG, "c": SILENT, ODD: GOOD})
    assert names(lines.listed(batch, Kind.SUCCEEDED, "", "")) == ["a", ODD]
    failed = lines.listed(batch, Kind.FAILED, "", "").lines
    assert [(line.custom_id, line.status, line.code, line.message) for line in failed] == [
        ("b", 400, "http_400 context_length_exceeded", "too long"),
        ("c", None, "timeout", "No answer."),
    ]


@both
def test_all_lines_are_listed_in_input_order_with_their_numbers(tenant: Tenant, make: Any) -> None:
    batch = make(tenant, {"a": GOOD, "b": LONG, "c": SILENT, ODD: GOOD})
    found = lines.listed(batch, Kind.ALL, "", "").lines
    assert [(line.number, line.custom_id, line.code or line.status) for line in found] == [
        (1, "a", 200),
        (2, "b", "http_400 context_length_exceeded"),
        (3, "c", "timeout"),
        (4, ODD, 200),
    ]


def test_lines_without_a_result_are_listed_while_the_batch_runs(tenant: Tenant) -> None:
    batch = running(tenant, {"a": GOOD, "b": None, "c": GOOD, "d": GOOD, "e": GOOD, "f": GOOD, ODD: None})
    found = lines.listed(batch, Kind.WAITING, "", "")
    assert [(line.number, line.custom_id, line.size) for line in found.lines] == [(2, "b", None), (7, ODD, None)]
    assert names(lines.listed(batch, Kind.ALL, "", "")) == ["a", "b", "c", "d", "e", "f", ODD]


@both
@pytest.mark.parametrize("kind", [Kind.ALL, Kind.SUCCEEDED, Kind.FAILED])
def test_pages_follow_one_another_without_gap_or_repetition(tenant: Tenant, make: Any, kind: Kind) -> None:
    outcomes = {str(n): LONG if n % 3 else GOOD for n in range(240)}
    batch = make(tenant, outcomes)
    wanted = [name for name, one in outcomes.items() if kind == Kind.ALL or one.succeeded == (kind == Kind.SUCCEEDED)]
    found = list(pages(batch, kind))
    assert [name for page in found for name in names(page)] == wanted
    assert {len(page.lines) for page in found[:-1]} == {lines.PAGE}


@both
def test_a_search_that_is_cut_off_after_each_line_still_finds_all(
    tenant: Tenant, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "SECONDS", -1.0)
    batch = make(tenant, {"a": LONG, "b": SILENT, "c": LONG})
    found = list(pages(batch, Kind.FAILED, "timeout"))
    assert [name for page in found for name in names(page)] == ["b"]
    assert found[0].is_cut_off


def test_lines_of_one_code_are_those_of_its_group_and_other_has_the_rest(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(error_groups, "MOST_GROUPS", 2)
    outcomes = {str(n): Outcome(400 + n, "r", b"no") for n in range(4)}
    batch = ended(tenant, outcomes)
    assert names(lines.listed(batch, Kind.FAILED, "http_400", "")) == ["0"]
    assert names(lines.listed(batch, Kind.FAILED, "other", "")) == ["1", "2", "3"]


@both
@pytest.mark.parametrize("size", [100_000, 2_000_000])
def test_an_error_is_in_its_group_however_much_the_upstream_said(tenant: Tenant, make: Any, size: int) -> None:
    said = Outcome(400, "r", b'{"error": {"message": "%b", "code": "odd"}}' % (b"x" * size))
    batch = make(tenant, {"a": said, "b": LONG})
    code = batch.error_groups.get(custom_id="a").code
    assert names(lines.listed(batch, Kind.FAILED, code, "")) == ["a"]


def test_blank_lines_and_a_mark_of_byte_order_are_no_lines_but_count(tenant: Tenant) -> None:
    output = results.result_line("a", GOOD) + results.result_line("b", GOOD)
    asked = b"\xef\xbb\xbf" + request("a") + b"\r\n\n" + request("b").strip()
    batch = ended(tenant, {"x": GOOD}, input_file_id=tenant.has_file(asked).public_id)
    batch.output_file_id = tenant.has_result(output).public_id
    found = lines.listed(batch, Kind.ALL, "", "").lines
    assert [(line.number, line.custom_id) for line in found] == [(1, "a"), (4, "b")]
    assert lines.neighbours(batch, found[1].key, Kind.ALL, "") == (found[0].key, "")


def test_long_lines_are_listed_without_being_held_in_memory(tenant: Tenant) -> None:
    long = Outcome(200, "r", b'{"text": "%b"}' % (b"x" * 8_000_000))
    batch = ended(tenant, {"a": long, "b": long, "c": long})
    for kind in (Kind.SUCCEEDED, Kind.ALL):
        tracemalloc.start()
        found = lines.listed(batch, kind, "", "")
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert names(found) == ["a", "b", "c"]
        assert found.lines[1].size
        assert found.lines[1].size > 8_000_000
        assert peak < 4_000_000


# One line


@both
@pytest.mark.parametrize("wanted", ["a", "c", ODD])
def test_a_line_is_found_by_its_custom_id_with_request_and_result(tenant: Tenant, make: Any, wanted: str) -> None:
    batch = make(tenant, {"a": GOOD, "aa": GOOD, "c": LONG, ODD: GOOD})
    key = lines.find(batch, wanted)
    assert key
    entry = lines.line(batch, key)
    assert lines.told(entry).custom_id == wanted
    asked = lines.request(batch, entry)
    assert asked
    assert asked.number == ["a", "aa", "c", ODD].index(wanted) + 1
    assert json.loads(asked.place.read(10_000))["custom_id"] == wanted


@both
def test_each_line_of_the_list_of_all_leads_to_its_request(tenant: Tenant, make: Any) -> None:
    batch = make(tenant, {"a": GOOD, "b": LONG, ODD: GOOD, "d": SILENT, "e": LONG})
    for found in lines.listed(batch, Kind.ALL, "", "").lines:
        entry = lines.line(batch, found.key)
        assert lines.told(entry) == found
        assert entry.request
        assert json.loads(entry.request.read(10_000))["custom_id"] == found.custom_id


def test_what_the_upstream_called_the_request_is_told(tenant: Tenant) -> None:
    found = lines.listed(ended(tenant, {"a": GOOD}), Kind.SUCCEEDED, "", "").lines[0]
    assert (found.status, found.request_id) == (200, "req-7")


@both
def test_no_line_has_a_custom_id_that_only_begins_so(tenant: Tenant, make: Any) -> None:
    assert lines.find(make(tenant, {"abc": GOOD}), "ab") is None


@both
def test_a_search_for_one_line_goes_on_from_where_it_was_cut_off(
    tenant: Tenant, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "SECONDS", -1.0)
    batch = make(tenant, {"a": GOOD, "b": LONG, "c": GOOD, "d": LONG})
    assert _persisted(lambda start: lines.find(batch, "d", start))
    assert _persisted(lambda start: lines.find(batch, "e", start)) is None
    entry = lines.line(batch, lines.listed(batch, Kind.FAILED, "", "").next)
    asked = _persisted(lambda start: lines.request(batch, entry, start))
    assert asked
    assert asked.number == 2


def _persisted(look: Any) -> Any:
    """What comes of a search that is told to go on as often as it was cut off."""
    start = ""
    for _ in range(20):
        try:
            return look(start)
        except CutOff as cut:
            start = cut.at
    raise AssertionError("The search does not end.")


def test_a_line_without_a_result_yet_is_found_and_has_none(tenant: Tenant) -> None:
    batch = running(tenant, {"a": GOOD, "b": None})
    assert lines.find(batch, "b") == "l2"
    entry = lines.line(batch, "l2")
    assert entry.result is None
    assert lines.told(entry).custom_id == "b"


@both
@pytest.mark.parametrize(
    ("kind", "code", "wanted"),
    [
        (Kind.ALL, "", ["0", "1", "2", "3", "4", "5", "6"]),
        (Kind.SUCCEEDED, "", ["0", "2", "6"]),
        (Kind.FAILED, "", ["1", "3", "4", "5"]),
        (Kind.FAILED, "timeout", ["1", "5"]),
    ],
)
def test_from_a_line_its_list_is_gone_through_in_both_directions(
    tenant: Tenant, make: Any, kind: Kind, code: str, wanted: list[str]
) -> None:
    outcomes = {str(n): one for n, one in enumerate([GOOD, SILENT, GOOD, LONG, LONG, SILENT, GOOD])}
    batch = make(tenant, outcomes)
    key = lines.listed(batch, kind, code, "").lines[0].key
    keys = [key]
    while key := lines.neighbours(batch, key, kind, code)[1]:
        keys.append(key)
    assert [lines.told(lines.line(batch, key)).custom_id for key in keys] == wanted
    assert [lines.neighbours(batch, key, kind, code)[0] for key in keys] == ["", *keys[:-1]]


def test_lines_without_a_result_are_gone_through_too(tenant: Tenant) -> None:
    batch = running(tenant, {"a": None, "b": GOOD, "c": GOOD, "d": GOOD, "e": GOOD, "f": GOOD, "g": None, "h": None})
    assert lines.neighbours(batch, "l7", Kind.WAITING, "") == ("l1", "l8")


def test_a_key_from_while_the_batch_ran_still_leads_to_its_line(tenant: Tenant) -> None:
    batch = ended(tenant, {"a": GOOD, "b": LONG, "c": GOOD})
    with pytest.raises(Gone):
        lines.line(batch, "l2")
    assert lines.told(lines.line(batch, lines.moved(batch, "l2"))).custom_id == "b"
    with pytest.raises(Gone):
        lines.moved(batch, "l4")


@pytest.mark.parametrize(
    "key",
    ["o3", "o999999", "e0", "x1", "o", "l99999999999999999999", "l1", "a1-0-0-5", "a2-7-0-0", "a1-99999-0-0", "a"],
)
def test_a_key_that_is_none_leads_nowhere(tenant: Tenant, key: str) -> None:
    with pytest.raises(Gone):
        lines.line(ended(tenant, {"a": GOOD}), key)


@pytest.mark.parametrize("key", ["l0", "l3", "l4000000000", "o0", "a1-0-0-0", "l٣"])
def test_a_key_that_no_line_of_a_running_batch_has_leads_nowhere(tenant: Tenant, key: str) -> None:
    with pytest.raises(Gone):
        lines.line(running(tenant, {"a": GOOD, "b": None}), key)


# What is gone


def test_lines_whose_bytes_are_not_there_are_gone(tenant: Tenant) -> None:
    batch = ended(tenant, {"a": GOOD})
    retention.discard(StoredFile.objects.get(public_id=batch.output_file_id).blob)
    for kind in (Kind.SUCCEEDED, Kind.ALL):
        with pytest.raises(Gone):
            lines.listed(batch, kind, "", "")


def test_without_the_input_results_are_there_and_requests_are_not(tenant: Tenant) -> None:
    batch = ended(tenant, {"a": GOOD})
    StoredFile.objects.filter(public_id=batch.input_file_id).delete()
    assert names(lines.listed(batch, Kind.SUCCEEDED, "", "")) == ["a"]
    with pytest.raises(Gone):
        lines.listed(batch, Kind.ALL, "", "")
    with pytest.raises(Gone):
        lines.request(batch, lines.line(batch, "o0"))


@both
def test_what_its_owner_has_deleted_is_shown_to_nobody_also_while_its_bytes_are_held(tenant: Tenant, make: Any) -> None:
    batch = make(tenant, {"a": GOOD})
    StoredFile.objects.update(deleted_at=batch.created_at)
    batch = Batch.objects.get(pk=batch.pk)
    with pytest.raises(Gone):
        lines.listed(batch, Kind.ALL, "", "")
    with pytest.raises(Gone):
        lines.find(batch, "a")


def test_a_failed_line_is_found_though_the_output_file_was_deleted(tenant: Tenant) -> None:
    batch = ended(tenant, {"a": GOOD, "b": LONG})
    StoredFile.objects.filter(public_id=batch.output_file_id).update(deleted_at=batch.created_at)
    batch = Batch.objects.get(pk=batch.pk)
    assert lines.find(batch, "b") == "e0"
    for start in ("", "e0"):
        with pytest.raises(Gone):  # it may have been there
            lines.find(batch, "a", start)


def test_a_running_batch_without_its_input_still_has_its_results(tenant: Tenant) -> None:
    batch = running(tenant, {"a": GOOD, "b": LONG})
    StoredFile.objects.update(deleted_at=batch.created_at)
    batch = Batch.objects.get(pk=batch.pk)
    assert [lines.told(lines.line(batch, key)).custom_id for key in ("l1", "l2")] == ["a", "b"]


def test_a_file_of_another_account_is_not_looked_into(tenant: Tenant) -> None:
    batch = ended(tenant, {"a": GOOD})
    batch.output_file_id = Tenant("other").has_result(results.result_line("theirs", GOOD)).public_id
    with pytest.raises(Gone):
        lines.listed(batch, Kind.SUCCEEDED, "", "")
