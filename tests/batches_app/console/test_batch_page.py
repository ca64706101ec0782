"""The page of one batch."""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html import unescape
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from batches_app import history, results
from batches_app.console import batch_files, timeline
from batches_app.models import Batch, BatchEvent, Checkpoint, ErrorGroup, LaneMinute
from batches_app.states import TERMINAL, Status
from billing_app.models import AuditEntry
from billing_app.pricing import Tokens
from files_app.models import StoredFile
from tests import books
from tests.factories import BatchFactory, LaneFactory, PriceFactory, ServedModelFactory, ShardFactory
from tests.operators import signed_in
from tests.tenants import Tenant

pytestmark = pytest.mark.django_db
LIVE = {"HX-Request": "true"}
Kind = BatchEvent.Kind
SINCE = datetime(2026, 11, 20, 10, 2, tzinfo=UTC)


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
    assert f'data-live="/console/batches/{running.public_id}"' in html_of(signed_in("viewer", "vera"), running)
    assert "data-live" not in html_of(client, done)


def test_a_poll_gets_the_live_part_alone(acme: Tenant) -> None:
    batch = acme.has_batch(status=Status.IN_PROGRESS)
    part = signed_in().get(f"/console/batches/{batch.public_id}", headers=LIVE).content.decode()
    assert part.lstrip().startswith('<div id="batch"')
    assert "<html" not in part


def test_with_a_poll_comes_what_can_be_done_now(acme: Tenant) -> None:
    """Else a batch that ends while somebody looks at it could be cancelled for ever."""
    batch = acme.has_batch(status=Status.COMPLETED, total=2, completed=1, failed=1)
    part = signed_in().get(f"/console/batches/{batch.public_id}", headers=LIVE).content.decode()
    assert '<div id="batch-actions" class="row" hx-swap-oob="morph">' in part
    assert "/console/operations/retry" in part
    assert "hx-swap-oob" not in html_of(signed_in(), batch)


def runs(acme: Tenant, *, lines: int, deadline: timedelta, **columns: Any) -> Batch:
    """For ten minutes, and in the last of these it did so many lines."""
    now = timezone.now()
    facts = {"status": Status.IN_PROGRESS, "in_progress_at": now - timedelta(minutes=10), "expires_at": now + deadline}
    batch: Batch = BatchFactory(account=acme.account, completed=lines, **(facts | columns))
    index = results.pack_index(results.IndexEntry(line, False, 10) for line in range(1, lines + 1))
    Checkpoint.objects.create(
        batch=batch, blob=f"checkpoints/{batch.pk}", index=index, first_line=1, last_line=lines, lane_token=1
    )
    return batch


@pytest.mark.parametrize(
    ("deadline", "verdict"), [(timedelta(hours=1), "before its deadline"), (timedelta(minutes=2), "after its deadline")]
)
def test_it_tells_its_speed_and_whether_it_will_be_done_in_time(
    acme: Tenant, deadline: timedelta, verdict: str
) -> None:
    batch = runs(acme, lines=240, deadline=deadline, total=720)
    assert batch.price
    books.use(acme.account, batch.price, Tokens(1000, output=200), batch_id=batch.public_id, now=timezone.now())
    page = text_of(signed_in(), batch)
    for said in ("2 lines/s", "600 tokens/min", verdict):
        assert said in page
    assert ("What is not done by then is not run" in page) is (verdict == "after its deadline")


def test_nothing_is_promised_of_a_batch_that_stands(acme: Tenant) -> None:
    assert "not known yet" in text_of(signed_in(), acme.has_batch(status=Status.IN_PROGRESS, total=5))


def test_no_end_is_foretold_while_its_model_is_paused_here_or_in_the_list(acme: Tenant) -> None:
    model = ServedModelFactory(paused_at=SINCE)
    page = text_of(signed_in(), runs(acme, lines=240, deadline=timedelta(minutes=10), total=720, model=model))
    assert "lines/s" not in page
    assert "Nothing gets done at present" in page
    assert [(row.eta, row.is_late) for row in signed_in().get("/console/batches").context["rows"]] == [(None, True)]
    model.paused_at = None
    model.save()
    assert [row.is_late for row in signed_in().get("/console/batches").context["rows"]] == [False]


def test_successes_that_were_not_billed_are_explained(acme: Tenant) -> None:
    batch = acme.has_batch(status=Status.COMPLETED, total=5, completed=5, flagged=2)
    assert "2 successes told no usable token counts" in text_of(signed_in(), batch)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({}, "no control worker is free"),
        ({"stage_expires_at": timezone.now() + timedelta(days=9)}, "is being checked, line by line"),
        ({"status": "finalizing", "sealed_at": timezone.now()}, "Its result files have waited to be written"),
        ({"status": "cancelling", "sealed_at": timezone.now(), "stage_expires_at": timezone.now() + timedelta(days=9)},
         "Its result files are being written."),
    ],
)  # fmt: skip
def test_it_says_which_stage_it_waits_for(acme: Tenant, columns: dict[str, Any], said: str) -> None:
    assert said in text_of(signed_in(), acme.has_batch(**columns))


@pytest.mark.parametrize(
    ("paused", "lane", "shard", "said"),
    [
        (True, {}, "waiting", "Its model has been paused by an operator since 2026-11-20 10:02:00"),
        (False, None, "waiting", "Its requests are ready, and no lane worker is free to send them."),
        (False, {"paused_since": SINCE, "pause_reason": "HTTP 503. Busy."}, "running",
         "The upstream has been away since 2026-11-20 10:02:00 (HTTP 503. Busy)."),
        (False, {"limit": 4, "pause_reason": "HTTP 429"}, "running",
         "The upstream throttles (HTTP 429): 4 of 32 requests at once are allowed now."),
        (False, {"limit": 4}, "running", "The upstream throttled: 4 of 32 requests at once are allowed now"),
        (False, {"limit": 32, "in_flight": 32}, "waiting", "The model is at its limit of 32 requests in flight."),
    ],
)  # fmt: skip
def test_it_says_what_of_its_model_it_waits_for(
    acme: Tenant, paused: bool, lane: dict[str, Any] | None, shard: str, said: str
) -> None:
    model = ServedModelFactory(paused_at=SINCE if paused else None)
    if lane is not None:
        LaneFactory(model=model, permits=32, lease_expires_at=timezone.now() + timedelta(minutes=1), **lane)
    else:
        LaneFactory(model=model)
    batch = acme.has_batch(status=Status.IN_PROGRESS, total=9, model=model)
    ShardFactory(batch=batch, model=model, state=shard)
    assert said in text_of(signed_in(), batch)


def test_it_says_since_when_the_upstream_throttles(acme: Tenant) -> None:
    model = ServedModelFactory()
    lease = timezone.now() + timedelta(minutes=1)
    lane = LaneFactory(model=model, permits=32, limit=4, pause_reason="HTTP 429", lease_expires_at=lease)
    minute = timezone.now().replace(second=0, microsecond=0)
    LaneMinute.objects.create(model=model, lane=lane, lane_token=1, minute=minute, answers=3, throttled=3)
    batch = acme.has_batch(status=Status.IN_PROGRESS, total=9, model=model)
    said = f"The upstream has throttled since {minute:%Y-%m-%d %H:%M}:00 (HTTP 429): 4 of 32 requests at once"
    assert said in text_of(signed_in(), batch)
    assert f'since <time datetime="{minute.isoformat()}" title="{minute:%Y-%m-%d %H:%M}:00 UTC">' in html_of(
        signed_in(), batch
    )


def test_it_counts_the_batches_that_go_first_and_the_accounts_that_share_the_model(acme: Tenant) -> None:
    model = ServedModelFactory()
    LaneFactory(model=model, permits=32, limit=32, lease_expires_at=timezone.now() + timedelta(minutes=1))
    batch = acme.has_batch(status=Status.IN_PROGRESS, total=9, model=model)
    ShardFactory(batch=batch, model=model)
    for _ in range(3):
        acme.has_batch(status=Status.IN_PROGRESS, model=model, created_at=batch.created_at - timedelta(hours=1))
    BatchFactory(model=model)
    page = text_of(signed_in(), batch)
    assert "3 batches of this account have an earlier deadline and go first." in page
    assert "The model is shared with 1 other account; each has its share in turn." in page


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
    assert "bad 60." in text_of(client, batch, faults="all")
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


def test_a_file_that_was_deleted_is_said_to_be_and_not_offered(acme: Tenant) -> None:
    kept, deleted = acme.has_file(), acme.has_result(b"x")
    StoredFile.objects.filter(pk=deleted.pk).update(deleted_at=timezone.now())
    batch = acme.has_batch(
        status=Status.COMPLETED, source=kept, input_file_id=kept.public_id, output_file_id=deleted.public_id
    )
    assert "Output deleted" in text_of(signed_in(), batch)
    html = html_of(signed_in(), batch)
    assert f"/console/files/{kept.public_id}/download" in html
    assert f"/console/files/{deleted.public_id}/download" not in html
    assert "/download" not in html_of(signed_in("viewer", "vera"), batch)


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


def test_one_that_does_not_move_is_late_here_as_in_the_list(acme: Tenant) -> None:
    near, later = (timezone.now() + timedelta(minutes=minutes) for minutes in (14, 16))
    batch = acme.has_batch(status=Status.IN_PROGRESS, total=9)
    Batch.objects.update(expires_at=later)
    assert "Nothing gets done at present" not in text_of(signed_in(), batch)
    Batch.objects.update(expires_at=near)
    assert "Nothing gets done at present" in text_of(signed_in(), batch)
    assert [row.is_late for row in signed_in().get("/console/batches").context["rows"]] == [True]


@pytest.mark.parametrize(
    ("status", "left", "unrun"),
    [(Status.IN_PROGRESS, 6, 0), (Status.CANCELLING, 0, 6), (Status.CANCELLED, 0, 6), (Status.COMPLETED, 0, 0)],
)
def test_lines_that_will_not_be_run_are_not_left(acme: Tenant, status: Status, left: int, unrun: int) -> None:
    total = left + unrun + 4
    batch = acme.has_batch(status=status, total=total, completed=3, failed=1)
    pace = signed_in().get(f"/console/batches/{batch.public_id}").context["pace"]
    assert (pace.left, pace.unrun) == (left, unrun)


def test_who_stopped_it_is_told_and_why(acme: Tenant) -> None:
    start = timezone.now() - timedelta(hours=1)
    batch = acme.has_batch(created_at=start, status=Status.CANCELLED, cancelling_at=start, cancelled_at=start)

    def many_turns() -> None:
        BatchEvent.objects.bulk_create(BatchEvent(batch=batch, at=start, kind=Kind.CLAIMED) for _ in range(20))

    many_turns()
    history.note_stop(batch, history.by_operator("olga", "wrong prompt"), now=start)
    many_turns()
    history.note_stop(batch, history.FOR_CREDIT, now=start)
    many_turns()
    told = {str(moment.text): moment.detail for moment in timeline.of(batch)}
    assert told["Cancelled by an operator"] == "olga · wrong prompt"
    assert "Cancelled because the credit of its account is used up" in told


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


def test_a_worker_that_died_is_told_among_ever_so_many_events(acme: Tenant) -> None:
    start = timezone.now() - timedelta(hours=1)
    batch = acme.has_batch(created_at=start, status=Status.IN_PROGRESS)
    kinds = [Kind.LOST if n == timeline.MOST_READ - 40 else Kind.CLAIMED for n in range(timeline.MOST_READ + 7)]
    events = [BatchEvent(batch=batch, at=start + timedelta(seconds=n), kind=kind) for n, kind in enumerate(kinds)]
    BatchEvent.objects.bulk_create(events)
    told = [str(moment.text) for moment in timeline.of(batch) if moment.text != "A lane began to work on it"]
    assert told == [
        "Created",
        "What lanes did before is left out here",
        "438 more events of lanes",
        "The lane's worker died; its lines wait again",
        "31 more events of lanes",
    ]


def test_what_comes_at_the_same_moment_is_in_the_order_in_which_it_is_done(acme: Tenant) -> None:
    now = timezone.now()
    names = ("in_progress_at", "finalizing_at", "sealed_at", "completed_at")
    batch = acme.has_batch(created_at=now, status=Status.COMPLETED, **dict.fromkeys(names, now))
    result = batch_files.Kept("output", "file-x", acme.has_result(b"x" * 2048))
    StoredFile.objects.update(created_at=now)
    result.file.created_at = now  # type: ignore[union-attr]  # it has one
    told = timeline.of(batch, [result])
    assert [str(moment.text) for moment in told] == [
        "Created",
        "In progress",
        "Finalizing",
        "Sealed: from here on no result is accepted",
        "The output file was written",
        "Completed",
    ]
    assert "2.0" in told[4].detail


@pytest.mark.parametrize("public_id", ["batch_nothing", "x" * 300, "a\u202eb"])
def test_a_batch_that_is_not_there_is_not_found_in_the_consoles_frame(public_id: str) -> None:
    page = signed_in().get(f"/console/batches/{public_id}")
    assert page.status_code == 404
    assert "There is nothing at this address" in page.content.decode()


@pytest.mark.parametrize("query", ["faults=some", "sort=name", "faults=all&faults=all"])
def test_what_the_address_asks_for_and_is_not_there_is_said(acme: Tenant, query: str) -> None:
    page = signed_in().get(f"/console/batches/{acme.has_batch().public_id}?{query}")
    assert page.status_code == 400
    assert 'role="alert"' in page.content.decode()


def test_looking_at_the_page_is_no_look_at_contents(acme: Tenant) -> None:
    text_of(signed_in(), acme.has_batch(status=Status.COMPLETED))
    text_of(signed_in("viewer", "vera"), acme.has_batch(metadata={"secret": "plan"}))
    assert not AuditEntry.objects.exists()


@pytest.mark.parametrize(
    "facts",
    [
        {"metadata": {"secret": "plan"}},
        {"status": Status.FAILED, "errors": [{"code": "x", "message": "secret", "line": 1, "param": None}]},
    ],
)
def test_where_a_tenants_words_are_shown_the_look_is_in_the_audit_log(acme: Tenant, facts: dict[str, Any]) -> None:
    batch = acme.has_batch(**facts)
    text_of(signed_in(), batch)
    entry = AuditEntry.objects.get()
    assert (entry.actor, entry.action, entry.account) == ("olga", "contents.viewed", "acme")
    assert batch.public_id in entry.target
    assert "secret" not in str(entry.changes)


def test_polls_of_a_look_are_no_looks_of_their_own_but_made_up_ones_are(acme: Tenant) -> None:
    batch, other = (acme.has_batch(metadata={"secret": "plan"}) for _ in range(2))
    client = signed_in()

    def poll(address: str, by: Client = client) -> str:
        page = by.get(address, headers=LIVE).content.decode()
        assert "plan" in page
        return unescape(page.partition('data-live="')[2].partition('"')[0])

    address = unescape(html_of(client, batch).partition('data-live="')[2].partition('"')[0])
    for _ in range(3):
        address = poll(address)
    assert AuditEntry.objects.count() == 1
    poll(f"/console/batches/{batch.public_id}")
    poll(address.replace(batch.public_id, other.public_id))
    poll(address, by=signed_in(name="otto"))
    assert AuditEntry.objects.count() == 4


@pytest.mark.parametrize("status", list(Status))
@pytest.mark.parametrize("headers", [{}, LIVE])
@pytest.mark.parametrize("role", ["operator", "administrator"])
def test_the_page_and_its_live_part_take_few_queries(
    acme: Tenant, status: Status, headers: dict[str, str], role: str, django_assert_max_num_queries: Any
) -> None:
    """Of a batch with everything that there is to ask for, which waits for every reason at once."""
    model = ServedModelFactory()
    lease = timezone.now() + timedelta(minutes=1)
    LaneFactory(model=model, permits=32, limit=4, in_flight=4, pause_reason="HTTP 429", lease_expires_at=lease)
    file, result = acme.has_file(), acme.has_result(b"x")
    batch = runs(acme, lines=3, deadline=timedelta(hours=1), total=9, failed=3, model=model, status=status)
    Batch.objects.filter(pk=batch.pk).update(
        parent=acme.has_batch(), source=file, input_file_id=file.public_id, metadata={"a": "b"}
    )
    if status in TERMINAL:
        Batch.objects.filter(pk=batch.pk).update(output_file_id=result.public_id, source=None)
    ShardFactory(batch=batch, model=model)
    for number in range(5):
        ErrorGroup.objects.create(batch=batch, code=f"http_{number}", count=1, first_line=1)
        acme.has_batch(parent=batch)
    BatchEvent.objects.bulk_create([BatchEvent(batch=batch, kind=Kind.CLAIMED) for _ in range(50)])
    client = signed_in(role)
    with django_assert_max_num_queries(12):
        assert client.get(f"/console/batches/{batch.public_id}", headers=headers).status_code == 200
