"""The list of files: what it shows, its filters and pages, and the bytes."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from billing_app.models import AuditEntry
from config.api import ids
from files_app import blobs, retention
from files_app.console import files as page_of_files
from files_app.models import StoredFile
from tests.operators import allowed, signed_in
from tests.tenants import LINE, Tenant

pytestmark = pytest.mark.django_db
PAGE = "/console/files"
BATCH = "batch_" + "0123456789abcdef" * 2


@pytest.fixture
def acme() -> Tenant:
    return Tenant("acme")


@pytest.fixture
def viewer() -> Client:
    return signed_in("viewer")


def listed(client: Client, **filters: str) -> list[str]:
    answer = client.get(PAGE, filters)
    assert answer.status_code == 200, answer.context["problems"]
    return [row.file.public_id for row in answer.context["rows"]]


def problems(client: Client, query: str) -> list[str]:
    answer = client.get(f"{PAGE}?{query}")
    assert answer.status_code == 400
    assert "rows" not in answer.context  # nothing that looks filtered
    said = [str(problem) for problem in answer.context["problems"]]
    assert all(word in answer.content.decode() for word in said[0].split()[:2])
    return said


def test_a_file_is_shown_with_its_account_purpose_name_and_size(acme: Tenant, viewer: Client) -> None:
    file = acme.has_file(b"x" * 2048, filename="questions.jsonl")
    page = viewer.get(PAGE).content.decode()
    for text in ("acme", "Input", "questions.jsonl", file.public_id, "2.0\N{NO-BREAK SPACE}KB", "never", "Kept"):
        assert text in page, text


def test_the_newest_come_first(acme: Tenant, viewer: Client) -> None:
    now = timezone.now()
    late, early = (acme.has_file(created_at=now - timedelta(hours=hours)).public_id for hours in (1, 2))
    assert listed(viewer) == [late, early]


def test_batches_that_hold_it_are_counted_and_linked(acme: Tenant, viewer: Client) -> None:
    file, other = acme.has_file(), acme.has_file()
    for number in range(3):
        retention.hold(file, f"batch_{number}")
    holders = {row.file.public_id: row.holders for row in viewer.get(PAGE).context["rows"]}
    assert holders == {file.public_id: 3, other.public_id: 0}
    page = viewer.get(PAGE).content.decode()
    assert f'<a href="/console/batches?q={file.public_id}">3 batches now</a>' in page


def test_a_result_leads_to_the_batch_that_made_it(acme: Tenant, viewer: Client) -> None:
    acme.has_result(b"{}", filename=f"{BATCH}_output.jsonl")
    acme.has_result(b"{}", filename=f"{BATCH}_error.jsonl")
    assert viewer.get(PAGE).content.decode().count(f'href="/console/batches/{BATCH}"') == 2


def test_an_input_that_calls_itself_a_result_is_none(acme: Tenant, viewer: Client) -> None:
    """Its tenant gave it that name."""
    acme.has_file(filename=f"{BATCH}_output.jsonl")
    assert f"/console/batches/{BATCH}" not in viewer.get(PAGE).content.decode()


def test_who_may_not_see_batches_gets_no_link_to_them(acme: Tenant) -> None:
    client = allowed("files_app.view_storedfile")
    retention.hold(acme.has_file(), "batch_1")
    acme.has_result(b"{}", filename=f"{BATCH}_output.jsonl")
    page = client.get(PAGE).content.decode()
    assert "1 batch now" in page
    assert "/console/batches" not in page


def test_a_deleted_file_that_a_batch_needs_is_said_to_be_held(acme: Tenant, viewer: Client) -> None:
    file = acme.has_file()
    retention.hold(file, "batch_1")
    retention.delete_file(file, now=timezone.now())
    assert "Deleted, still held" in viewer.get(PAGE).content.decode()


# Filters


def test_each_filter_leaves_what_it_says(acme: Tenant, viewer: Client) -> None:
    now = timezone.now()
    mine = acme.has_file(filename="sales march.jsonl", created_at=now - timedelta(days=3)).public_id
    result = acme.has_result(b"{}").public_id
    theirs = Tenant("globex").has_file().public_id
    gone = acme.has_file()
    retention.hold(gone, "batch_1")
    retention.delete_file(gone, now=now)
    everything = {mine, result, theirs, gone.public_id}
    day = f"{now - timedelta(days=2):%Y-%m-%d}"
    for filters, wanted in (
        ({}, everything),
        ({"account": "globex"}, {theirs}),
        ({"purpose": "batch_output"}, {result}),
        ({"purpose": "batch", "account": "acme"}, {mine, gone.public_id}),
        ({"state": "deleted"}, {gone.public_id}),
        ({"state": "kept"}, everything - {gone.public_id}),
        ({"created_to": day}, {mine}),
        ({"created_from": "24h"}, everything - {mine}),
        ({"created_from": "7d", "created_to": "1d"}, {mine}),
        ({"q": mine}, {mine}),
        ({"q": mine[:20]}, {mine}),
        ({"q": "ALES"}, {mine}),
        ({"q": "sa"}, {mine}),
        ({"q": "file-batch_output-"}, {result}),
        ({"q": "100%"}, set()),
    ):
        assert set(listed(viewer, **filters)) == wanted, filters


def test_a_date_is_one_of_the_viewer_s_zone(acme: Tenant, viewer: Client) -> None:
    moment = datetime(2026, 11, 19, 23, 30, tzinfo=UTC)  # the 20th in Berlin
    file = acme.has_file(created_at=moment).public_id
    day = {"created_from": "2026-11-20", "created_to": "2026-11-20"}
    assert listed(viewer, **day) == []
    viewer.cookies["timezone"] = "Europe/Berlin"
    assert listed(viewer, **day) == [file]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("account=nobody", "Account: There is no account of this name."),
        ("account=%00", "Account: Null characters are not allowed."),
        ("purpose=fun", "Purpose: Select a valid choice. fun is not one of the available choices."),
        ("state=x", "State: Select a valid choice. x is not one of the available choices."),
        ("created_from=yesterday", "Created from: Write a date"),
        ("created_to=2026-02-30", "Created to: Write a date"),
        ("created_to=0001-01-01", "Created to: Write a date"),
        ("q=%00", "Search: Null characters are not allowed."),
        ("q=" + "x" * 201, "Search: Ensure this value has at most 200 characters"),
        ("colour=red", "There is no filter “colour”."),
        ("purpose=batch&purpose=batch", "“purpose” is given more than once."),
        ("after=x", "There is no such page."),
        ("before=WzEsMiwzXQ", "There is no such page."),
        ("after=x&before=y", "“after” and “before” do not go together."),
    ],
)
def test_what_is_wrong_in_the_address_is_said(acme: Tenant, viewer: Client, query: str, said: str) -> None:
    acme.has_file()
    assert problems(viewer, query)[0].startswith(said)


def test_what_a_form_leaves_empty_is_not_in_the_address(viewer: Client) -> None:
    answer = viewer.get(f"{PAGE}?q=&account=acme&state=&created_from=")
    assert (answer.status_code, answer["Location"]) == (302, f"{PAGE}?account=acme")


def test_each_filter_in_force_can_be_taken_away(acme: Tenant, viewer: Client) -> None:
    page = viewer.get(PAGE, {"account": "acme", "state": "kept", "q": "in"})
    assert [(str(chip.value), chip.without) for chip in page.context["chips"]] == [
        ("acme", "state=kept&q=in"),
        ("Kept", "account=acme&q=in"),
        ("in", "account=acme&state=kept"),
    ]


# Pages


@pytest.fixture
def _few_on_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_of_files, "SIZE", 2)


@pytest.fixture
def same_second(acme: Tenant) -> list[str]:
    now = timezone.now()
    return [acme.has_file(created_at=now).public_id for _ in range(5)][::-1]


@pytest.mark.usefixtures("_few_on_a_page")
def test_pages_go_on_where_the_last_one_ended_also_within_one_second(same_second: list[str], viewer: Client) -> None:
    seen, cursor = [], ""
    while True:
        page = viewer.get(PAGE, {"after": cursor} if cursor else {})
        seen.append([row.file.public_id for row in page.context["rows"]])
        if not (cursor := page.context["page"].after):
            break
    assert seen == [same_second[:2], same_second[2:4], same_second[4:]]
    before = viewer.get(PAGE, {"before": page.context["page"].before})
    assert [row.file.public_id for row in before.context["rows"]] == same_second[2:4]


@pytest.mark.usefixtures("_few_on_a_page")
def test_what_comes_meanwhile_moves_no_page(same_second: list[str], acme: Tenant, viewer: Client) -> None:
    second = {"after": viewer.get(PAGE).context["page"].after}
    acme.has_file()
    assert listed(viewer, **second) == same_second[2:4]


@pytest.mark.usefixtures("_few_on_a_page")
def test_going_back_ends_at_a_whole_first_page(same_second: list[str], acme: Tenant, viewer: Client) -> None:
    page = viewer.get(PAGE, {"after": viewer.get(PAGE).context["page"].after})
    before = page.context["page"].before
    assert page.context["chips"] == []  # where one is in a list is no filter
    StoredFile.objects.filter(public_id=same_second[0]).update(created_at=timezone.now() - timedelta(days=1))
    answer = viewer.get(PAGE, {"before": before, "account": "acme"})
    assert (answer.status_code, answer["Location"]) == (302, f"{PAGE}?account=acme")


def test_a_list_that_is_empty_says_what_to_do_next(viewer: Client) -> None:
    assert "No file yet" in viewer.get(PAGE).content.decode()
    Tenant("acme").has_file()
    page = viewer.get(PAGE, {"q": "nothing like it"}).content.decode()
    assert "No file matches" in page
    assert f'href="{PAGE}">Show all files' in page


def test_a_page_takes_few_queries_however_much_is_on_it(acme: Tenant, viewer: Client) -> None:
    for number in range(12):
        tenant = Tenant(f"tenant {number}")
        retention.hold(tenant.has_file(), "batch_1")
        tenant.has_result(b"{}", filename=f"{BATCH}_output.jsonl")
    with CaptureQueriesContext(connection) as queries:
        assert viewer.get(PAGE).status_code == 200
    assert len(queries) <= 12, [query["sql"] for query in queries]


# Bytes


@pytest.fixture
def reader() -> Client:
    return signed_in("administrator", name="ada")


def test_the_bytes_are_for_those_who_may_read_contents_and_are_audited(acme: Tenant, reader: Client) -> None:
    file = acme.has_file()
    assert signed_in("operator").get(f"{PAGE}/{file.public_id}/download").status_code == 403
    assert AuditEntry.objects.count() == 0
    answer = reader.get(f"{PAGE}/{file.public_id}/download")
    assert b"".join(answer) == LINE
    entry = AuditEntry.objects.get()
    assert (entry.actor, entry.action, entry.account) == ("ada", "contents.downloaded", "acme")
    assert file.public_id in entry.target
    assert entry.address == "127.0.0.1"


@pytest.mark.parametrize(
    "name", ["evil.exe\u202etxt.jsonl", 'a"b.jsonl', "a\r\nX-Evil: 1", "x.jsonl\n", "../../etc/passwd"]
)
def test_a_tenant_s_name_does_not_come_to_an_operator_s_disk(acme: Tenant, reader: Client, name: str) -> None:
    file = acme.has_file(filename=name)
    answer = reader.get(f"{PAGE}/{file.public_id}/download")
    assert answer["Content-Disposition"] == f'attachment; filename="{file.public_id}.jsonl"'
    assert answer["Content-Type"] == "application/octet-stream"
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert "no-store" in answer["Cache-Control"]
    answer.getvalue()


def test_a_result_keeps_the_name_that_we_gave_it(acme: Tenant, reader: Client) -> None:
    file = acme.has_result(b"{}", filename=f"{BATCH}_output.jsonl")
    answer = reader.get(f"{PAGE}/{file.public_id}/download")
    assert answer["Content-Disposition"] == f'attachment; filename="{BATCH}_output.jsonl"'
    answer.getvalue()


def test_what_its_tenant_has_deleted_is_not_read_any_more(acme: Tenant, reader: Client) -> None:
    file = acme.has_file()
    retention.hold(file, "batch_1")
    retention.delete_file(file, now=timezone.now())
    assert reader.get(f"{PAGE}/{file.public_id}/download").status_code == 404
    assert reader.get(f"{PAGE}/{ids.input_file_id()}/download").status_code == 404
    assert AuditEntry.objects.count() == 0


def test_bytes_that_are_missing_are_said_to_be(acme: Tenant, reader: Client, caplog: Any) -> None:
    file = acme.has_file()
    blobs.delete(file.blob)
    page = reader.get(f"{PAGE}/{file.public_id}/download", follow=True)
    assert "are not where they should be" in page.content.decode()
    assert file.blob in caplog.text
    assert AuditEntry.objects.count() == 0


def test_a_range_is_not_asked_for_here(acme: Tenant, reader: Client) -> None:
    file = acme.has_file()
    answer = reader.get(f"{PAGE}/{file.public_id}/download", headers={"Range": "bytes=9-1"})
    assert (answer.status_code, b"".join(answer)) == (200, LINE)
