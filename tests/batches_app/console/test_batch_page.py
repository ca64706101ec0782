"""The page of one batch."""

import re
from datetime import timedelta
from decimal import Decimal
from html import unescape
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from batches_app.console import timeline
from batches_app.models import Batch, BatchEvent, ErrorGroup
from batches_app.states import Status
from billing_app.models import AuditEntry
from tests.factories import PriceFactory
from tests.operators import signed_in
from tests.tenants import Tenant

pytestmark = pytest.mark.django_db
LIVE = {"HX-Request": "true"}
Kind = BatchEvent.Kind


def text_of(client: Client, batch: Batch, **query: str) -> str:
    page = client.get(f"/console/batches/{batch.public_id}", query)
    assert page.status_code == 200
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", page.content.decode())).split())


def html_of(client: Client, batch: Batch) -> str:
    return client.get(f"/console/batches/{batch.public_id}").content.decode()


@pytest.fixture
def acme() -> Tenant:
    return Tenant("acme")


def test_it_tells_progress_tokens_and_what_it_costs_now_and_in_the_end(acme: Tenant) -> None:
    price = PriceFactory(model_name="m", input_price=Decimal(2), output_price=Decimal(4))
    counts: dict[str, Any] = {
        "total": 1000,
        "completed": 400,
        "failed": 100,
        "input_tokens": 1_000_000,
        "cached_tokens": 7,
    }
    batch = acme.has_batch(status=Status.IN_PROGRESS, price=price, model_name="m", name="nightly", **counts)
    page = text_of(signed_in(), batch)
    for said in ("nightly", "500 of 1,000 requests", "100 failed", "1,000,000", "7 of them cached", "Left 500"):
        assert said in page
    assert "1.00 USD" in page
    assert "about 2.00 USD in the end" in page


def test_a_batch_that_runs_is_polled_and_one_that_has_ended_is_not(acme: Tenant) -> None:
    running, done = acme.has_batch(status=Status.IN_PROGRESS), acme.has_batch(status=Status.COMPLETED)
    client = signed_in()
    assert f'data-live="/console/batches/{running.public_id}"' in html_of(client, running)
    assert "data-live" not in html_of(client, done)


def test_a_poll_gets_the_live_part_alone(acme: Tenant) -> None:
    batch = acme.has_batch(status=Status.IN_PROGRESS)
    part = signed_in().get(f"/console/batches/{batch.public_id}", headers=LIVE).content.decode()
    assert part.lstrip().startswith('<div id="batch"')
    assert "<html" not in part


def test_it_says_why_it_waits(acme: Tenant) -> None:
    assert "no control worker is free" in text_of(signed_in(), acme.has_batch())


def test_errors_by_code_lead_to_their_lines_and_to_a_retry_of_just_these(acme: Tenant) -> None:
    batch = acme.has_batch(status=Status.COMPLETED, total=10, completed=6, failed=4)
    ErrorGroup.objects.create(batch=batch, code="http_400", count=3, first_line=2, custom_id="row-2", message="no good")
    ErrorGroup.objects.create(batch=batch, code="timeout", count=1, first_line=9, custom_id="row-9")
    page, html = text_of(signed_in(), batch), html_of(signed_in(), batch)
    for said in ("http_400", "3 30 %", "row-2", "no good", "Retry 4 failed lines"):
        assert said in page
    assert f"/console/batches/{batch.public_id}/lines?kind=failed&amp;code=http_400" in html
    assert re.findall(r'name="code" value="([^"]*)"', html) == ["", "http_400", "timeout"]


def test_what_a_tenant_wrote_needs_a_right_of_its_own(acme: Tenant) -> None:
    batch = acme.has_batch(status=Status.COMPLETED, total=10, failed=3, metadata={"secret": "plan"})
    ErrorGroup.objects.create(batch=batch, code="http_400", count=3, first_line=2, custom_id="row-2", message="no good")
    page = text_of(signed_in("viewer"), batch)
    assert "http_400" in page
    for hidden in ("row-2", "no good", "plan", "Retry"):
        assert hidden not in page
    assert f"/console/batches/{batch.public_id}/lines" not in html_of(signed_in("viewer"), batch)


@pytest.mark.parametrize(
    ("status", "role", "may"),
    [
        (Status.IN_PROGRESS, "operator", True),
        (Status.VALIDATING, "operator", True),
        (Status.COMPLETED, "operator", False),
        (Status.CANCELLING, "operator", False),
        (Status.IN_PROGRESS, "viewer", False),
    ],
)
def test_it_can_be_cancelled_by_whom_and_while_it_can(acme: Tenant, status: Status, role: str, may: bool) -> None:
    html = html_of(signed_in(role), acme.has_batch(status=status))
    assert ("/console/operations/cancel" in html) is may


def test_errors_of_the_input_are_told_with_their_lines_the_first_fifty_and_then_all(acme: Tenant) -> None:
    errors = [{"code": "invalid_json_line", "message": f"bad {n}.", "line": n, "param": None} for n in range(1, 61)]
    batch = acme.has_batch(status=Status.FAILED, errors=errors)
    client = signed_in()
    assert "60 errors in the input file" in text_of(client, batch)
    assert "bad 50." in text_of(client, batch)
    assert "bad 51." not in text_of(client, batch)
    assert "bad 60." in text_of(client, batch, errors="all")
    assert "bad 1." not in text_of(signed_in("viewer", "vera"), batch)


def test_lines_that_failed_before_errors_were_counted_can_be_retried_too(acme: Tenant) -> None:
    """Of a batch from before an upgrade: nobody knows its codes."""
    batch = acme.has_batch(status=Status.COMPLETED, total=10, completed=7, failed=3)
    page = text_of(signed_in(), batch)
    assert "Retry 3 failed lines" in page
    assert "Some of its lines failed before errors were counted by code." in page


def test_another_tenants_file_is_not_taken_for_its_input(acme: Tenant) -> None:
    foreign = Tenant("umbrella").has_file()
    page = html_of(signed_in(), acme.has_batch(status=Status.FAILED, input_file_id=foreign.public_id))
    assert f"/console/files/{foreign.public_id}" not in page


def test_a_retry_and_what_it_retries_are_linked_both_ways(acme: Tenant) -> None:
    parent = acme.has_batch(status=Status.COMPLETED)
    child = acme.has_batch(parent=parent, retried_code="timeout")
    assert f"/console/batches/{child.public_id}" in html_of(signed_in(), parent)
    assert f"/console/batches/{parent.public_id}" in html_of(signed_in(), child)
    assert "timeout" in text_of(signed_in(), child)


def test_its_files_are_told_also_those_that_are_gone(acme: Tenant) -> None:
    file = acme.has_file()
    batch = acme.has_batch(status=Status.COMPLETED, input_file_id=file.public_id, output_file_id="file-batch_output-x")
    page = text_of(signed_in(), batch)
    assert file.public_id in page
    assert "gone" in page


def test_the_timeline_has_states_and_lanes_in_their_order(acme: Tenant) -> None:
    start = timezone.now() - timedelta(hours=1)
    times = {"in_progress_at": start + timedelta(minutes=1), "completed_at": start + timedelta(minutes=9)}
    batch = acme.has_batch(created_at=start, status=Status.COMPLETED, total=5, **times)
    for minute, kind in ((2, Kind.CLAIMED), (3, Kind.LOST), (4, Kind.CLAIMED), (5, Kind.RELEASED)):
        BatchEvent.objects.create(
            batch=batch, at=start + timedelta(minutes=minute), kind=kind, lane="m lane 0", owner="h:1"
        )
    told = [str(moment.text) for moment in timeline.of(batch)]
    assert told == [
        "Created",
        "In progress",
        "A lane began to work on it",
        "The lane's worker died; its lines wait again",
        "A lane began to work on it",
        "A lane gave it back",
        "Completed",
    ]


def test_many_events_are_folded_in_their_place(acme: Tenant) -> None:
    start = timezone.now() - timedelta(hours=1)
    batch = acme.has_batch(created_at=start, status=Status.IN_PROGRESS)
    events = [
        BatchEvent(batch=batch, at=start + timedelta(seconds=n), kind=Kind.CLAIMED, lane=f"lane {n}")
        for n in range(100)
    ]
    BatchEvent.objects.bulk_create(events)
    told = timeline.of(batch)
    assert len(told) == 1 + 15 + 1 + 15
    assert str(told[16].text) == "70 more events of lanes"
    assert "lane 85" in told[17].detail


@pytest.mark.parametrize("public_id", ["batch_nothing", "x" * 300, "a\u202eb"])
def test_a_batch_that_is_not_there_is_not_found_in_the_consoles_frame(public_id: str) -> None:
    page = signed_in().get(f"/console/batches/{public_id}")
    assert page.status_code == 404
    assert "There is nothing at this address" in page.content.decode()


def test_looking_at_the_page_is_no_look_at_contents(acme: Tenant) -> None:
    text_of(signed_in(), acme.has_batch(status=Status.COMPLETED))
    assert not AuditEntry.objects.exists()


@pytest.mark.parametrize("status", list(Status))
def test_the_page_takes_few_queries(acme: Tenant, status: Status, django_assert_max_num_queries: Any) -> None:
    batch = acme.has_batch(
        status=status, total=9, failed=3, parent=acme.has_batch(), input_file_id=acme.has_file().public_id
    )
    for number in range(5):
        ErrorGroup.objects.create(batch=batch, code=f"http_{number}", count=1, first_line=1)
        acme.has_batch(parent=batch)
    client = signed_in("operator")
    with django_assert_max_num_queries(12):
        text_of(client, batch)
