"""The list's search by custom_id: honest about how far it went, and never without a trace."""

import json
from typing import Any

import pytest
from django.test import Client

from batches_app import custom_ids
from batches_app.console import custom_id_search
from batches_app.models import Batch
from billing_app.models import AuditEntry
from config.console import keyset
from tests.operators import signed_in
from tests.tenants import Tenant

pytestmark = pytest.mark.django_db
LIST = "/console/batches"


@pytest.fixture
def acme() -> Tenant:
    return Tenant("acme")


@pytest.fixture
def reader() -> Client:
    return signed_in("administrator")


def batch_with(tenant: Tenant, *wanted: str, **columns: Any) -> Batch:
    lines = [json.dumps({"custom_id": custom_id, "method": "POST", "url": "/", "body": {}}) for custom_id in wanted]
    return tenant.has_batch(source=tenant.has_file("\n".join(lines).encode()), **columns)


def listed(page: Any) -> list[Batch]:
    assert page.status_code == 200
    return [row.batch for row in page.context["rows"]]


def test_it_finds_the_batches_that_hold_the_request_the_newest_first(acme: Tenant, reader: Client) -> None:
    first, _other, last = batch_with(acme, "a", "b"), batch_with(acme, "c"), batch_with(acme, "b")
    page = reader.get(LIST, {"custom_id": "b"})
    assert listed(page) == [last, first]
    assert page.context["outcome"] == "Looked through all 3 matching batches."
    assert f'href="{LIST}/{last.public_id}/lines?custom_id=b"' in page.content.decode()


def test_the_filters_say_where_to_look(acme: Tenant, reader: Client) -> None:
    batch_with(acme, "b", name="other")
    wanted = batch_with(acme, "b", name="nightly")
    batch_with(Tenant("else"), "b", name="nightly")
    page = reader.get(LIST, {"custom_id": "b", "q": "nightly", "account": "acme"})
    assert listed(page) == [wanted]
    assert page.context["outcome"] == "Looked through the only matching batch."


def test_it_says_how_far_it_got_and_goes_on_from_there(
    acme: Tenant, reader: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = [batch_with(acme, "b") for _ in range(5)][::-1]
    monkeypatch.setattr(custom_id_search, "MOST", 2)
    page = reader.get(LIST, {"custom_id": "b"})
    assert listed(page) == batches[:2]
    assert page.context["outcome"] == (
        "Looked through the newest 2 of 5 matching batches; narrow the filters to look further."
    )
    page = reader.get(LIST, {"custom_id": "b", "after": page.context["page"].after})
    assert listed(page) == batches[2:4]
    assert page.context["outcome"] == (
        "Looked through the next 2 of 5 matching batches; narrow the filters to look further."
    )
    page = reader.get(LIST, {"custom_id": "b", "after": page.context["page"].after})
    assert listed(page) == batches[4:]
    assert page.context["outcome"] == "Looked through the last 1 of 5 matching batches."
    assert page.context["page"].after is None


def test_a_page_that_is_full_goes_on_with_the_batch_after_its_last(acme: Tenant, reader: Client) -> None:
    batches = [batch_with(acme, "b") for _ in range(30)][::-1]
    page = reader.get(LIST, {"custom_id": "b", "size": "25"})
    assert listed(page) == batches[:25]
    assert (
        listed(reader.get(LIST, {"custom_id": "b", "size": "25", "after": page.context["page"].after})) == batches[25:]
    )


def test_a_file_that_takes_all_the_time_is_left_out_and_the_search_goes_on_after_it(
    acme: Tenant, reader: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    older, newer = batch_with(acme, "b"), batch_with(acme, "b")
    with monkeypatch.context() as patched:
        patched.setattr(custom_ids._Budget, "take", _spent)
        page = reader.get(LIST, {"custom_id": "b"})
    assert f"{newer.public_id} is too large to be looked through" in page.context["outcome"]
    assert listed(reader.get(LIST, {"custom_id": "b", "after": page.context["page"].after})) == [older]


def _spent(*_: object) -> None:
    raise custom_ids._Spent


def test_another_order_is_another_beginning(acme: Tenant, reader: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    oldest, _newest = batch_with(acme, "b"), batch_with(acme, "b")
    monkeypatch.setattr(custom_id_search, "MOST", 1)
    page = reader.get(LIST, {"custom_id": "b", "sort": "created"})
    assert listed(page) == [oldest]
    assert "Looked through the first 1 of 2 matching batches;" in page.context["outcome"]


def test_what_could_not_be_looked_into_is_told(acme: Tenant, reader: Client) -> None:
    acme.has_batch()
    batch_with(acme, "a")
    page = reader.get(LIST, {"custom_id": "b"})
    assert page.context["outcome"] == (
        "Looked through all 2 matching batches. None of them holds a request with this custom_id. "
        "Of 1 the input file is gone."
    )


def test_many_matching_batches_are_not_counted_to_the_end(
    acme: Tenant, reader: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(4):
        batch_with(acme, "a")
    monkeypatch.setattr(keyset, "MOST_COUNTED", 2)
    monkeypatch.setattr(custom_id_search, "MOST_COUNTED", 2)
    monkeypatch.setattr(custom_id_search, "MOST", 3)
    page = reader.get(LIST, {"custom_id": "b"})
    assert "Looked through the newest 3 of 2+ matching batches" in page.context["outcome"]


@pytest.mark.parametrize("custom_id", [" padded ", "<b>1</b>", "a&b=c#d", "评测", "\u202e1"])
def test_a_custom_id_is_taken_as_it_is(acme: Tenant, reader: Client, custom_id: str) -> None:
    wanted = batch_with(acme, custom_id)
    batch_with(acme, custom_id.strip() + "x")
    page = reader.get(LIST, {"custom_id": custom_id})
    assert listed(page) == [wanted]
    assert "<b>1</b>" not in page.content.decode()


def test_each_search_is_in_the_audit_trail(acme: Tenant, reader: Client) -> None:
    batch_with(acme, "b")
    reader.get(LIST, {"custom_id": "b", "account": "acme"})
    reader.get(LIST, {"custom_id": "b"})
    entries = AuditEntry.objects.order_by("pk").values_list("actor", "action", "target", "account", "address")
    assert list(entries) == [
        ("olga", "contents.viewed", "a custom_id sought in 1 batches", "acme", "127.0.0.1"),
        ("olga", "contents.viewed", "a custom_id sought in 1 batches", "", "127.0.0.1"),
    ]


def test_what_is_found_is_not_asked_for_again_and_again(acme: Tenant, reader: Client) -> None:
    """It would be read, and written into the audit trail, every two seconds."""
    batch_with(acme, "b")
    assert "data-live" not in reader.get(LIST, {"custom_id": "b"}).content.decode()


def test_only_what_is_selected_of_a_search_can_be_cancelled(acme: Tenant) -> None:
    batch_with(acme, "b")
    page = signed_in().get(LIST, {"custom_id": "b"}).content.decode()
    assert 'name="ids"' in page
    assert 'name="all"' not in page


@pytest.mark.parametrize("role", ["viewer", "operator", "billing"])
def test_who_may_not_read_contents_learns_nothing_and_leaves_no_entry(acme: Tenant, role: str) -> None:
    batch_with(acme, "b")
    client = signed_in(role)
    assert client.get(LIST, {"custom_id": "b"}).status_code == 403
    assert client.get("/console/batches.csv", {"custom_id": "b"}).status_code == 400
    assert not AuditEntry.objects.exists()
