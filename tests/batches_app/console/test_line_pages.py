"""The lines of a batch and one of them, for those who may read what tenants send and get."""

import json
from html import unescape
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission
from django.test import Client

from batches_app import lines
from batches_app.models import Batch
from batches_app.results import Outcome
from billing_app.models import AuditEntry
from files_app import retention
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


def get(client: Client, batch: Batch, rest: str = "", **query: str) -> Any:
    return client.get(f"/console/batches/{batch.public_id}/lines{rest}", query)


def listed(page: Any) -> list[str]:
    assert page.status_code == 200
    return [line.custom_id for line in page.context["found"].lines]


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
    assert '"code": "context_length_exceeded"' in shown
    assert '"content": "hi"' in shown
    assert "line 2" in shown


def test_what_is_not_there_is_said(reader: Client, tenant: Tenant) -> None:
    page = get(reader, ended(tenant, {"a": GOOD}), custom_id="zzz")
    assert "No line of this batch has the custom_id “zzz”." in page.content.decode()


@pytest.mark.parametrize("query", [{"kind": "odd"}, {"after": "q1"}, {"code": "x" * 101}])
def test_what_cannot_be_read_is_said(reader: Client, tenant: Tenant, query: dict[str, str]) -> None:
    page = get(reader, ended(tenant, {"a": GOOD}), **query)
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


@pytest.mark.parametrize("rest", ["/o1", "/zz", "/o0/other", "/l1"])
def test_a_line_that_is_not_there_is_not_found(reader: Client, tenant: Tenant, rest: str) -> None:
    assert get(reader, ended(tenant, {"a": GOOD}), rest).status_code == 404


def test_files_too_large_to_be_looked_through_are_said_to_be(
    reader: Client, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = ended(tenant, {"a": GOOD, "b": GOOD})
    key = lines.find(batch, "b")
    monkeypatch.setattr(lines, "SECONDS", -1.0)
    assert "too large to be looked through" in get(reader, batch, custom_id="b").content.decode()
    assert "The input file is too large" in get(reader, batch, f"/{key}").content.decode()


@pytest.mark.parametrize("rest", ["", "/o0"])
def test_the_pages_take_few_queries(
    reader: Client, tenant: Tenant, rest: str, django_assert_max_num_queries: Any
) -> None:
    batch = ended(tenant, {str(n): GOOD for n in range(60)})
    with django_assert_max_num_queries(12):
        assert get(reader, batch, rest).status_code == 200
