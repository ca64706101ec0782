"""The lines of a batch and one of them, for those who may read what tenants send and get."""

import json
import re
from html import unescape
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission
from django.test import Client

from batches_app import execution, finalization, lines, queue, validation
from batches_app.models import Batch, Lane, ServedModel
from batches_app.models.routing import TEST_ENDPOINT
from batches_app.results import Outcome
from batches_app.states import Status
from batches_app.upstream import test_model
from billing_app.models import AuditEntry
from files_app import blobs, retention
from files_app.models import StoredFile
from tests.batches_app.test_lines import GOOD, LONG, ODD, SILENT, ended, running
from tests.operators import signed_in
from tests.tenants import Tenant

pytestmark = pytest.mark.django_db


@pytest.fixture
def reader() -> Client:
    group = Group.objects.create(name="reader")
    group.permissions.add(*Permission.objects.filter(codename__in=["view_batch", "read_contents"]))
    return signed_in("reader")


@pytest.fixture
def tenant() -> Tenant:
    return Tenant("acme")


def asked(custom_id: str, role: str = "user") -> bytes:
    """Of the test model, which wants a message of a user."""
    body = {"model": test_model.MODEL, "messages": [{"role": role, "content": "你好"}]}
    line = {"custom_id": custom_id, "method": "POST", "url": TEST_ENDPOINT, "body": body}
    return json.dumps(line).encode() + b"\n"


@pytest.fixture
def created(tenant: Tenant) -> Batch:
    """As a tenant creates it, and validated: three lines, of which the second will fail."""
    data = asked("first") + asked(ODD, role="system") + asked("third")
    file = tenant.upload(data).json()["id"]
    created = tenant.create_batch(input_file_id=file, endpoint=TEST_ENDPOINT).json()["id"]
    batch = Batch.objects.get(public_id=created)
    validation.validate(batch.pk)
    return batch


def get(client: Client, batch: Batch, rest: str = "", **query: str) -> Any:
    return client.get(f"/console/batches/{batch.public_id}/lines{rest}", query)


def listed(page: Any) -> list[str]:
    assert page.status_code == 200
    return [line.custom_id for line in page.context["found"].lines]


@pytest.fixture
def _no_bells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "ring", lambda *_, **__: queue.Bell())


@pytest.mark.usefixtures("_no_bells")
def test_lines_can_be_looked_at_from_their_acceptance_on(reader: Client, created: Batch) -> None:
    """Of a real batch: before a lane took it, before its results were merged, and when it has ended."""
    batch = created
    assert listed(get(reader, batch, kind="waiting")) == ["first", ODD, "third"]
    assert "It has no result yet." in get(reader, batch, "/l2").content.decode()

    for lane in Lane.objects.filter(model__upstream_url=ServedModel.BUILTIN):
        execution.run_lane(lane.pk)
    looked = Batch.objects.get(pk=batch.pk)
    assert (looked.status, looked.completed, looked.failed) == (Status.FINALIZING, 2, 1)
    assert listed(get(reader, looked, kind="waiting")) == []
    before = _all_of(reader, looked)

    finalization.finalize(batch.pk)
    ended = Batch.objects.get(pk=batch.pk)
    assert ended.status == Status.COMPLETED
    assert get(reader, ended, kind="waiting").status_code == 400
    assert _all_of(reader, ended) == before
    assert [name for name, *_ in before] == ["first", ODD, "third"]
    page = reader.get(get(reader, ended, "/l2")["Location"])
    assert page.context["line"].custom_id == ODD


def _all_of(reader: Client, batch: Batch) -> list[Any]:
    """What the list of all lines and the page of each of them say, but for where they lie."""
    told = []
    for line in get(reader, batch, kind="all").context["found"].lines:
        page = get(reader, batch, f"/{line.key}")
        context, said = page.context, unescape(page.content.decode())
        assert "你好" in said
        told.append(
            (line.custom_id, line.number, line.status, line.code, context["asked"].number, context["response_text"])
        )
    return told


def test_a_batch_with_failures_shows_these_first_and_one_without_its_successes(reader: Client, tenant: Tenant) -> None:
    assert listed(get(reader, ended(tenant, {"a": GOOD, "b": LONG}))) == ["b"]
    assert listed(get(reader, ended(tenant, {"c": GOOD}))) == ["c"]


def test_lines_are_filtered_by_kind_and_code(reader: Client, tenant: Tenant) -> None:
    batch = ended(tenant, {"a": GOOD, "b": LONG, "c": SILENT})
    assert listed(get(reader, batch, kind="succeeded")) == ["a"]
    assert listed(get(reader, batch, kind="failed", code="timeout")) == ["c"]


def test_a_custom_id_leads_to_its_line(reader: Client, tenant: Tenant) -> None:
    batch = ended(tenant, {"a": GOOD, ODD: LONG})
    page = reader.get(get(reader, batch, custom_id=ODD)["Location"])
    assert page.status_code == 200
    shown = unescape(page.content.decode())
    for said in ('"code": "context_length_exceeded"', '"content": "hi"', "too long", "<dd>400</dd>", "<dd>2</dd>"):
        assert said in shown


def test_the_list_tells_what_each_line_came_to(reader: Client, tenant: Tenant) -> None:
    batch = running(tenant, {"a": GOOD, "b": LONG, "c": None})
    page = get(reader, batch, kind="all").content.decode()
    for said in ("200", "http_400 context_length_exceeded", "too long", "no result yet"):
        assert said in page


def linked(page: Any, rel: str) -> str:
    """The address that the page's link of this kind has; empty: there is none."""
    found = re.search(rf'rel="{rel}" href="([^"]*)"', page.content.decode())
    return unescape(found[1]) if found else ""


@pytest.mark.parametrize("make", [ended, running])
@pytest.mark.parametrize("query", [{"kind": "all"}, {"kind": "failed"}, {"kind": "failed", "code": "timeout"}, {}])
def test_its_links_lead_to_the_next_page_and_from_any_line_through_the_list(
    reader: Client, tenant: Tenant, make: Any, query: dict[str, str]
) -> None:
    batch = make(tenant, {str(n): SILENT if n % 3 else GOOD for n in range(90)})
    wanted = [str(n) for n in range(90) if n % 3 or query.get("kind") == "all"]
    page = get(reader, batch, **query)
    line = re.search(r'<tr data-href="([^"]*)"', page.content.decode())
    assert line
    first, names = listed(page), []
    assert first + listed(reader.get(f"/console/batches/{batch.public_id}/lines{linked(page, 'next')}")) == wanted
    page = reader.get(unescape(line[1]))
    for _ in range(5):
        names.append(page.context["line"].custom_id)
        page = reader.get(linked(page, "next"))
    assert names == wanted[:5]


def test_a_line_leads_to_the_lines_beside_it_in_the_list_that_it_is_of(reader: Client, tenant: Tenant) -> None:
    batch = ended(tenant, {"a": LONG, "b": SILENT, "c": GOOD, "d": LONG, "e": SILENT})
    first = get(reader, batch, kind="failed", code="timeout").context["found"].lines[0].key
    page = get(reader, batch, f"/{first}", kind="failed", code="timeout")
    assert not linked(page, "prev")
    page = reader.get(linked(page, "next"))
    assert page.context["line"].custom_id == "e"
    assert not linked(page, "next")
    assert reader.get(linked(page, "prev")).context["line"].custom_id == "b"


def test_a_list_of_other_lines_has_none_beside_this_one(reader: Client, tenant: Tenant) -> None:
    page = get(reader, ended(tenant, {"a": GOOD, "b": GOOD}), "/o0", kind="all")
    assert page.status_code == 200
    assert not linked(page, "next")


def test_what_is_not_there_is_said(reader: Client, tenant: Tenant) -> None:
    page = get(reader, ended(tenant, {"a": GOOD}), custom_id="zzz")
    assert "No line of this batch has the custom_id “zzz”." in page.content.decode()


@pytest.mark.parametrize(
    ("rest", "query"),
    [
        ("", {"kind": "odd"}),
        ("", {"kind": "waiting"}),  # of a batch that has ended
        ("", {"after": "q1"}),
        ("", {"start": "o1x"}),
        ("", {"code": "x" * 101}),
        ("", {"cod": "timeout"}),
        ("/o0", {"kind": "odd"}),
        ("/o0", {"start": "x"}),
        ("/o0", {"page": "2"}),
    ],
)
def test_what_cannot_be_read_is_said(reader: Client, tenant: Tenant, rest: str, query: dict[str, str]) -> None:
    page = get(reader, ended(tenant, {"a": GOOD}), rest, **query)
    assert page.status_code == 400
    assert 'role="alert"' in page.content.decode()


def test_a_line_of_a_running_batch_may_have_no_result_yet(reader: Client, tenant: Tenant) -> None:
    page = get(reader, running(tenant, {"a": GOOD, "b": None}), "/l2")
    assert "It has no result yet." in page.content.decode()
    assert "&quot;custom_id&quot;: &quot;b&quot;" in page.content.decode()


def test_a_long_answer_is_cut_and_can_be_downloaded_whole(reader: Client, tenant: Tenant) -> None:
    body = b'{"text": "%b"}' % (b"x" * 10_000_000)
    batch = ended(tenant, {"a": Outcome(200, "r", body)})
    page = get(reader, batch, "/o0")
    assert len(page.content) < 200_000
    assert "Cut at 64 KB" in page.content.decode()
    whole = b"".join(get(reader, batch, "/o0/response").streaming_content)
    assert json.loads(whole)["response"]["body"] == json.loads(body)
    assert json.loads(b"".join(get(reader, batch, "/o0/request").streaming_content))["custom_id"] == "a"


def test_a_download_is_the_line_and_nothing_of_the_next(reader: Client, tenant: Tenant) -> None:
    batch = ended(tenant, {"a": GOOD, "b": GOOD})
    file = StoredFile.objects.get(public_id=batch.output_file_id)
    first, second = blobs.read_range(file.blob, 0, file.bytes).splitlines(keepends=True)
    for key, line in (("o0", first), (f"o{len(first)}", second)):
        answer = get(reader, batch, f"/{key}/response")
        assert b"".join(answer.streaming_content) == line
        assert answer["Content-Length"] == str(len(line))
        assert answer["Content-Disposition"] == f'attachment; filename="{batch.public_id}-{key}-response.json"'


def test_what_is_shown_is_what_was_sent_number_by_number(reader: Client, tenant: Tenant) -> None:
    body = b'{"a": 1.10, "a": 1e999, "b": [], "c": [1, {"d": "x, {y}"}]}'
    page = unescape(get(reader, ended(tenant, {"a": Outcome(200, "r", body)}), "/o0").content.decode())
    for said in ('"a": 1.10,', '"a": 1e999,', '"b": [],', '"d": "x, {y}"'):
        assert said in page


def test_deep_nesting_makes_no_megabyte(reader: Client, tenant: Tenant) -> None:
    body = b'{"a": ' + b"[" * 15_000 + b"1" + b"]" * 15_000 + b"}"
    assert len(get(reader, ended(tenant, {"a": Outcome(200, "r", body)}), "/o0").content) < 300_000


def test_a_line_whose_bytes_go_while_it_is_looked_at_is_gone(reader: Client, tenant: Tenant) -> None:
    batch = running(tenant, {"a": GOOD})
    retention.discard(batch.checkpoints.get().blob)
    assert get(reader, batch, "/l1").status_code == 404
    assert get(reader, batch, "/l1/response").status_code == 404


def test_hostile_contents_are_shown_and_do_nothing(reader: Client, tenant: Tenant) -> None:
    body = json.dumps({"text": "<script>alert(1)</script>\u202e\0"}).encode()
    page = get(reader, ended(tenant, {ODD: Outcome(200, "r", body)}), "/o0").content.decode()
    assert "<script>alert" not in page
    assert "\u202e" not in page
    assert "U+202E" in page


def test_each_look_and_each_download_is_in_the_audit_log(reader: Client, tenant: Tenant) -> None:
    batch = ended(tenant, {"a": GOOD})
    get(reader, batch)
    get(reader, batch, "/o0")
    b"".join(get(reader, batch, "/o0/response").streaming_content)
    entries = AuditEntry.objects.order_by("pk")
    assert [entry.action for entry in entries] == ["contents.viewed", "contents.viewed", "contents.downloaded"]
    assert {entry.account for entry in entries} == {"acme"}
    assert all(batch.public_id in entry.target for entry in entries)
    assert "custom" not in str([entry.changes for entry in entries])  # which roles without the right may read


@pytest.mark.parametrize("role", ["viewer", "operator", "billing"])
@pytest.mark.parametrize("rest", ["", "/o0", "/o0/response"])
def test_without_the_right_to_contents_nothing_is_shown_or_noted(tenant: Tenant, role: str, rest: str) -> None:
    assert get(signed_in(role), ended(tenant, {"a": GOOD}), rest).status_code == 403
    assert not AuditEntry.objects.exists()


@pytest.mark.parametrize(
    "rest", ["/o1", "/zz", "/o0/other", "/l2", "/a1-0-0-1", "/l2/response", "/o0/request?start=1-3"]
)
def test_a_line_that_is_not_there_is_not_found(reader: Client, tenant: Tenant, rest: str) -> None:
    assert get(reader, ended(tenant, {"a": GOOD}), rest).status_code == 404


def test_a_search_that_takes_too_long_can_be_gone_on_with(
    reader: Client, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = ended(tenant, {"a": GOOD, "b": GOOD})
    monkeypatch.setattr(lines, "SECONDS", -1.0)
    page = get(reader, batch, custom_id="b")
    assert "Not found yet" in page.content.decode()
    found = get(reader, batch, custom_id="b", start=page.context["cut"].at)
    page = reader.get(found["Location"])
    assert "It has not been found in the first" in page.content.decode()
    page = reader.get(found["Location"], {"start": page.context["cut"].at})
    assert page.context["asked"].number == 2
    whole = get(reader, batch, f"/{page.context['key']}/request", start=page.context["asked"].at)
    assert json.loads(b"".join(whole.streaming_content))["custom_id"] == "b"


@pytest.mark.parametrize("kind", ["succeeded", "all"])
def test_what_is_gone_is_said(reader: Client, tenant: Tenant, kind: str) -> None:
    batch = ended(tenant, {"a": GOOD})
    StoredFile.objects.update(deleted_at=batch.created_at)
    page = get(reader, batch, kind=kind)
    assert page.status_code == 200
    assert "gone" in page.content.decode()
    assert get(reader, batch, "/o0").status_code == 404


def test_a_line_without_its_request_is_shown_with_its_answer(reader: Client, tenant: Tenant) -> None:
    batch = ended(tenant, {"a": GOOD})
    StoredFile.objects.filter(public_id=batch.input_file_id).update(deleted_at=batch.created_at)
    page = get(reader, batch, "/o0").content.decode()
    assert "The input file was deleted or has expired, and the request with it." in page
    assert "&quot;ok&quot;: true" in page


@pytest.mark.parametrize(
    ("make", "rest"),
    [
        *((ended, rest) for rest in ("?kind=all", "?kind=failed&code=timeout", "/o0", "/a1-0-0-0", "/e0?code=timeout")),
        *(
            (running, rest)
            for rest in ("?kind=all", "?kind=waiting", "?kind=failed&code=timeout", "/l1", "/l3?kind=waiting")
        ),
    ],
)
def test_the_pages_take_few_queries(
    reader: Client, tenant: Tenant, make: Any, rest: str, django_assert_max_num_queries: Any
) -> None:
    outcomes = {str(n): None if make is running and n % 3 == 2 else SILENT if n % 2 else GOOD for n in range(60)}
    batch = make(tenant, outcomes, **({"per_shard": 30} if make is running else {}))
    with django_assert_max_num_queries(12):
        assert get(reader, batch, rest).status_code == 200
