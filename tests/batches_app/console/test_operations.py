"""The pages of operations: what is drafted, confirmed, watched and aborted there, and by whom."""

import re
import threading
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django.utils.html import escape

from batches_app import error_groups, operations, results
from batches_app.models import Batch, Lane, Operation, ServedModel
from batches_app.results import ErrorCode, Outcome
from batches_app.states import Status
from batches_app.templatetags.looks import operation_progress
from billing_app import api_keys
from billing_app.models import AuditEntry
from tests.factories import AccountFactory, BatchFactory, LaneFactory, PriceFactory, ServedModelFactory
from tests.operators import signed_in
from tests.tenants import Tenant
from tests.threads import at_once

pytestmark = pytest.mark.django_db
State = Operation.State
OLGA = {"actor": "olga", "address": ""}


def draft(client: Client, *batches: Batch, **fields: Any) -> Any:
    return client.post(reverse("console:draft_cancel"), {"ids": [batch.public_id for batch in batches], **fields})


def start(client: Client, operation: Operation, reason: str = "wrong prompt") -> Any:
    return client.post(reverse("console:start_operation", args=[operation.pk]), {"reason": reason})


def shown(client: Client, operation: Operation, **headers: str) -> str:
    answer = client.get(reverse("console:operation", args=[operation.pk]), headers=headers)
    assert answer.status_code == 200
    return " ".join(answer.content.decode().split())


def failed_batch(account: str = "acme", **columns: Any) -> Batch:
    """With 2 timeouts, and one line that was cancelled; 7 succeeded."""
    if not ServedModel.objects.filter(name="m").exists():
        ServedModelFactory(name="m")
    tenant = Tenant(account)
    price = PriceFactory(model_name="m", input_price=Decimal(1), output_price=Decimal(1))
    silent = Outcome(None, None, b"", ErrorCode.TIMEOUT, "")
    stopped = Outcome(None, None, b"", ErrorCode.BATCH_CANCELLED, "")
    lines = [results.result_line("1", silent), results.result_line("2", silent), results.result_line("3", stopped)]
    requests = b"".join(b'{"custom_id": "%d", "body": {}}\n' % number for number in range(10))
    facts = {"status": Status.CANCELLED, "total": 10, "completed": 7, "failed": 2, "model_name": "m", "price": price}
    facts |= {
        "input_file_id": tenant.has_file(requests).public_id,
        "api_key": tenant.api_key,
        "input_tokens": 7_000_000,
    }
    facts |= {"error_file_id": tenant.has_result(b"".join(lines), "e.jsonl").public_id, "name": "nightly"}
    batch = tenant.has_batch(**(facts | columns))
    error_groups.add(batch.pk, error_groups.found_in(enumerate(lines, 1)))
    return batch


# Drafting


def test_selected_batches_become_a_draft_and_nothing_is_cancelled_yet() -> None:
    first, second, _other = BatchFactory.create_batch(3)
    answer = draft(signed_in("operator"), first, second)
    operation = Operation.objects.get()
    assert answer["Location"] == reverse("console:operation", args=[operation.pk])
    assert (operation.targets, operation.created_by, operation.state) == ([first.pk, second.pk], "olga", State.DRAFT)
    assert not Batch.objects.filter(status=Status.CANCELLING).exists()
    assert AuditEntry.objects.count() == 0


def test_all_that_match_are_those_of_the_list_s_filters() -> None:
    wanted, other = AccountFactory(name="acme"), AccountFactory(name="acme-test")
    mine = BatchFactory.create_batch(3, account=wanted)
    BatchFactory(account=wanted, status=Status.COMPLETED)
    BatchFactory(account=other)
    query = "account=acme&sort=deadline&after=x"
    signed_in("operator").post(reverse("console:draft_cancel"), {"all": "1", "query": query})
    operation = Operation.objects.get()
    assert operation.targets == [batch.pk for batch in mine]
    assert (operation.left_out, operation.query) == (1, query)


@pytest.mark.parametrize("query", ["status=nonsense", "colour=red", "account=nobody"])
def test_filters_that_are_wrong_choose_nothing(query: str) -> None:
    """Least of all everything."""
    BatchFactory()
    client = signed_in("operator")
    answer = client.post(reverse("console:draft_cancel"), {"all": "1", "query": query})
    assert answer["Location"].startswith(reverse("console:batches"))
    assert not Operation.objects.exists()
    assert messages_of(client, "/console/operations")


def test_nothing_chosen_is_nothing_cancelled() -> None:
    BatchFactory()
    client = signed_in("operator")
    assert client.post(reverse("console:draft_cancel")).status_code == 302
    assert not Operation.objects.exists()
    assert "Select at least one batch" in messages_of(client, "/console/operations")


def test_what_has_ended_cannot_be_chosen() -> None:
    client = signed_in("operator")
    answer = draft(client, batch := BatchFactory(status=Status.COMPLETED))
    assert answer["Location"] == reverse("console:batch", args=[batch.public_id])
    assert "nothing to cancel" in messages_of(client, "/console/operations")


def test_what_is_too_much_says_so_and_keeps_the_filters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "MOST_TARGETS", 2)
    BatchFactory.create_batch(3)
    client = signed_in("operator")
    answer = client.post(reverse("console:draft_cancel"), {"all": "1", "query": "status=in_progress"})
    assert answer["Location"] == reverse("console:batches") + "?status=in_progress"
    assert "at most 2 batches" in messages_of(client, "/console/operations")


@pytest.mark.parametrize(
    "form", [{"ids": "\0"}, {"ids": "a/b"}, {"ids": ""}, {"ids": "x", "query": "q=\0"}, {"all": "1", "query": "q=%00"}]
)
def test_what_no_page_of_ours_sends_is_answered_all_the_same(form: dict[str, str]) -> None:
    client = signed_in("operator")
    answer = client.post(reverse("console:draft_cancel"), form)
    assert answer["Location"].startswith(reverse("console:batches"))
    assert client.post(reverse("console:draft_retry"), {"batch": form.get("ids", "")}).status_code == 404
    batch = failed_batch()
    draft(client, BatchFactory(), query="q=\0")
    assert Operation.objects.get().query == "q=%00"
    answer = client.post(reverse("console:draft_retry"), {"batch": batch.public_id, "code": "\0"})
    assert answer["Location"] == reverse("console:batch", args=[batch.public_id])


def test_a_query_cannot_lead_away() -> None:
    answer = signed_in("operator").post(
        reverse("console:draft_cancel"), {"all": "1", "query": "a=b\r\nSet-Cookie: x=y#//evil"}
    )
    assert answer["Location"] == reverse("console:batches") + "?a=b%0D%0ASet-Cookie%3A+x%3Dy%23%2F%2Fevil"


# The confirmation


def test_the_confirmation_says_what_it_stops_and_what_it_bills() -> None:
    acme, beta = AccountFactory(name="acme"), AccountFactory(name="beta")
    price = PriceFactory(input_price=Decimal(2), output_price=Decimal(0))
    used = {"price": price, "total": 1000, "completed": 300, "failed": 20, "flagged": 1, "input_tokens": 1_234_567}
    batches = [
        *(BatchFactory(account=acme, **used) for _ in range(2)),
        BatchFactory(account=beta, price=None, status=Status.VALIDATING, total=0),
        BatchFactory(account=beta, status=Status.COMPLETED),
    ]
    client = signed_in("operator")
    draft(client, *batches)
    operation = Operation.objects.get()
    page = client.get(reverse("console:operation", args=[operation.pk]))
    whole = page.context["summary"].whole
    assert (whole.batches, whole.validating, whole.billed, whole.failed, whole.unrun) == (3, 1, 598, 40, 1360)
    assert whole.cost == sum(batch.cost for batch in batches[:3]) == Decimal("2.469134")
    accounts = {name: (found.batches, found.unrun) for name, found in page.context["accounts"]}
    assert accounts == {"acme": (2, 1360), "beta": (1, 0)}
    text = " ".join(page.content.decode().split())
    for sentence in ("2 in progress, 1 in validation", "1,360", "598", "2.47", "1 batch is left out"):
        assert sentence in text
    assert text.count("Cancel 3 batches") >= 3  # title, heading and the button


def test_what_has_ended_since_it_was_chosen_is_said() -> None:
    first, second = BatchFactory.create_batch(2)
    client = signed_in("operator")
    draft(client, first, second)
    Batch.objects.filter(pk=first.pk).update(status=Status.FINALIZING)
    assert "1 of the batches has ended since" in shown(client, Operation.objects.get())


def test_the_table_shows_the_first_twenty() -> None:
    client = signed_in("operator")
    draft(client, *BatchFactory.create_batch(22, account=AccountFactory()))
    page = client.get(reverse("console:operation", args=[Operation.objects.get().pk]))
    assert len(page.context["targets"]) == 20
    assert "the first 20 of 22" in page.content.decode()


# Starting


def test_confirmed_it_is_carried_out_and_the_page_tells_the_result() -> None:
    batches = BatchFactory.create_batch(3)
    client = signed_in("operator")
    draft(client, *batches)
    operation = Operation.objects.get()
    Batch.objects.filter(pk=batches[0].pk).update(status=Status.COMPLETED)
    assert start(client, operation)["Location"] == reverse("console:operation", args=[operation.pk])
    assert Batch.objects.filter(status=Status.CANCELLING).count() == 2
    text = shown(client, operation)
    for sentence in ("2 batches were cancelled.", "1 was left as it was.", "wrong prompt", batches[0].public_id):
        assert sentence in text
    assert "data-live" not in text
    assert "Cancel 3 batches</button>" not in text
    entry = AuditEntry.objects.filter(action="batch.cancelled")[0]
    assert (entry.actor, entry.address, entry.reason) == ("olga", "127.0.0.1", "wrong prompt")


@pytest.mark.parametrize("reason", ["", "   ", "x" * 501])
def test_without_a_reason_nothing_is_started(reason: str) -> None:
    client = signed_in("operator")
    draft(client, BatchFactory())
    operation = Operation.objects.get()
    answer = start(client, operation, reason)
    assert answer.status_code == 400
    assert 'aria-invalid="true"' in answer.content.decode()
    operation.refresh_from_db()
    assert operation.state == State.DRAFT


def test_a_form_that_is_sent_twice_starts_once() -> None:
    client = signed_in("operator")
    draft(client, BatchFactory())
    operation = Operation.objects.get()
    for _ in range(2):
        assert start(client, operation).status_code == 302
    assert AuditEntry.objects.filter(action="operation.started").count() == 1
    assert "started before" in messages_of(client, f"/console/operations/{operation.pk}")


@pytest.mark.parametrize(("total", "said"), [(1, "0 of 1 batch<"), (2000, "0 of 2,000 batches<")])
def test_how_far_it_is(total: int, said: str) -> None:
    assert said in operation_progress(Operation(kind=Operation.Kind.CANCEL, total=total))


def test_a_running_one_is_live_and_can_be_aborted() -> None:
    client = signed_in("operator")
    draft(client, *BatchFactory.create_batch(3))
    Operation.objects.update(state=State.RUNNING, position=1, changed=1, started_at=timezone.now())
    operation = Operation.objects.get()
    part = shown(client, operation, HX_Request="true")
    assert part.startswith('<div id="operation"')
    assert f'data-live="/console/operations/{operation.pk}"' in part
    assert "1 of 3 batches" in part
    assert "<html" not in part
    client.post(reverse("console:abort_operation", args=[operation.pk]))
    text = shown(client, operation)
    assert "1 batch was cancelled before the operation was aborted" in text
    assert "2 were not touched" in text
    assert "data-live" not in text
    client.post(reverse("console:abort_operation", args=[operation.pk]))
    assert "nothing to abort" in messages_of(client, f"/console/operations/{operation.pk}")


def test_one_that_was_given_up_says_how_far_it_came_and_where_it_stopped() -> None:
    client = signed_in("operator")
    first, second, _ = batches = BatchFactory.create_batch(3)
    draft(client, *batches)
    problems = [[second.public_id, "unforeseen"]]
    Operation.objects.update(state=State.FAILED, position=1, changed=1, problems=problems, started_at=timezone.now())
    text = shown(client, Operation.objects.get())
    assert "1 batch was cancelled, then the operation failed." in text
    assert "2 were not touched." in text
    assert "a reason that only the log tells" in text.partition("Left as they were")[2]
    assert second.public_id in text.partition("Left as they were")[2].partition(first.public_id)[0]


# Retrying


def test_a_retry_is_confirmed_with_its_codes_its_cost_and_who_pays() -> None:
    batch, client = failed_batch(), signed_in("operator")
    answer = client.post(reverse("console:draft_retry"), {"batch": batch.public_id, "code": ""})
    operation = Operation.objects.get()
    assert answer["Location"] == reverse("console:operation", args=[operation.pk])
    text = shown(client, operation)
    for sentence in ("Retry 3 failed lines", "timeout", "batch_cancelled", "never finished", "acme", "nightly"):
        assert sentence in text
    assert "1.50" in text  # 3 lines of a million tokens each, at half of 1
    assert not batch.retries.exists()


def test_a_retry_of_one_code_is_of_its_lines_alone() -> None:
    batch, client = failed_batch(), signed_in("operator")
    client.post(reverse("console:draft_retry"), {"batch": batch.public_id, "code": "timeout"})
    text = shown(client, Operation.objects.get())
    assert "Retry 2 failed lines" in text
    assert "batch_cancelled" not in text


def test_a_retry_leads_to_its_batch_and_the_next_one_warns() -> None:
    batch, client = failed_batch(), signed_in("operator")
    client.post(reverse("console:draft_retry"), {"batch": batch.public_id, "code": "timeout"})
    operation = Operation.objects.get()
    start(client, operation)
    assert 'data-live="' in shown(client, operation)  # a worker's, not this request's
    operations.carry_out(operation.pk)
    retry = batch.retries.get()
    text = shown(client, operation)
    assert "2 lines run again" in text
    assert reverse("console:batch", args=[retry.public_id]) in text
    assert reverse("console:batch", args=[batch.public_id]) in text
    client.post(reverse("console:draft_retry"), {"batch": batch.public_id, "code": ""})
    assert "were run again before" in shown(client, Operation.objects.latest("pk"))


def test_lines_that_somebody_else_runs_again_meanwhile_are_not_run_twice() -> None:
    batch, client = failed_batch(), signed_in("operator")
    drafts = []
    for code in ("timeout", "", "batch_cancelled"):
        client.post(reverse("console:draft_retry"), {"batch": batch.public_id, "code": code})
        drafts.append(Operation.objects.latest("pk"))
    first, every, others = drafts
    start(client, first)
    assert "are being run again at this moment" in shown(client, every)
    assert "at this moment" not in shown(client, others)
    for _ in range(2):
        start(client, every)
        assert "Not started" in messages_of(client, f"/console/operations/{every.pk}")
        operations.carry_out(first.pk)  # and when it is done, the draft is none the newer
    start(client, others)
    states = Operation.objects.order_by("pk").values_list("state", flat=True)
    assert list(states) == [State.DONE, State.DRAFT, State.RUNNING]


def test_nor_are_those_of_one_code_while_all_run_again_but_those_of_another_batch_are() -> None:
    batch, other, client = failed_batch(), failed_batch("globex"), signed_in("operator")
    drafts = []
    for one, code in ((batch, ""), (batch, "timeout"), (other, "timeout")):
        client.post(reverse("console:draft_retry"), {"batch": one.public_id, "code": code})
        drafts.append(Operation.objects.latest("pk"))
    for operation in drafts:
        start(client, operation)
    states = Operation.objects.order_by("pk").values_list("state", flat=True)
    assert list(states) == [State.RUNNING, State.DRAFT, State.RUNNING]


@pytest.mark.django_db(transaction=True)
def test_of_two_that_start_at_once_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL would let both look before either has written."""
    batch, look, both = failed_batch(), operations._others, threading.Barrier(2)
    drafts = [operations.draft_retry(batch, code, by=OLGA, now=timezone.now()) for code in ("", "timeout")]

    def looking(retry: Operation) -> Any:
        with suppress(threading.BrokenBarrierError):  # who waits for the other's transaction does not come
            both.wait(1)
        return look(retry)

    def is_started(drafted: Operation) -> bool:
        with suppress(operations.Overtaken):
            return operations.start(drafted, "why", by=OLGA, now=timezone.now())
        return False

    monkeypatch.setattr(operations, "_others", looking)
    assert sorted(at_once([partial(is_started, drafted) for drafted in drafts])) == [False, True]


def test_what_was_run_before_the_draft_stands_in_no_way() -> None:
    batch, client = failed_batch(), signed_in("operator")
    for _ in range(2):
        drafted = operations.draft_retry(batch, "timeout", by=OLGA, now=timezone.now())
        start(client, drafted)
        operations.carry_out(drafted.pk)
    assert batch.retries.count() == 2


def test_what_is_in_flight_is_told_before_it_is_cancelled() -> None:
    model, client = ServedModelFactory(), signed_in("operator")
    lane = LaneFactory(model=model, in_flight=4, lease_expires_at=timezone.now() + timedelta(minutes=1))
    columns = {"model": model, "total": 20, "completed": 10, "output_tokens": 1_000, "price": PriceFactory()}
    draft(client, BatchFactory(**columns))
    page = shown(client, Operation.objects.get())
    assert "May still be billed" in page
    assert re.search(r"lines in flight at most, about \S*\d", re.sub("<[^>]*>", "", page))
    Lane.objects.filter(pk=lane.pk).update(in_flight=0)
    assert "May still be billed" not in shown(client, Operation.objects.get())


def test_a_retry_without_its_key_says_so() -> None:
    batch, client = failed_batch(), signed_in("operator")
    assert batch.api_key is not None
    api_keys.revoke(batch.api_key, now=timezone.now())
    client.post(reverse("console:draft_retry"), {"batch": batch.public_id, "code": ""})
    assert "the new batch has none" in shown(client, Operation.objects.get())


def test_what_cannot_be_retried_is_said_on_the_batch_s_page() -> None:
    batch, client = failed_batch(status=Status.FINALIZING), signed_in("operator")
    answer = client.post(reverse("console:draft_retry"), {"batch": batch.public_id, "code": ""})
    assert answer["Location"] == reverse("console:batch", args=[batch.public_id])
    assert not Operation.objects.exists()
    assert "It has not ended yet" in messages_of(client, "/console/operations")


def test_a_retry_that_failed_says_why() -> None:
    batch, client = failed_batch(), signed_in("operator")
    client.post(reverse("console:draft_retry"), {"batch": batch.public_id, "code": ""})
    operation = Operation.objects.get()
    ServedModel.objects.update(is_enabled=False)
    start(client, operation)
    operations.carry_out(operation.pk)
    text = shown(client, operation)
    assert "No batch was created" in text
    assert "Its model takes no new batches." in text


def test_a_retry_of_no_batch_is_not_found() -> None:
    assert signed_in("operator").post(reverse("console:draft_retry"), {"batch": "x"}).status_code == 404


# The list


def operation(**columns: Any) -> Operation:
    known = {"kind": "cancel", "state": "done", "created_by": "olga", "total": 2, "position": 2, "changed": 2}
    return Operation.objects.create(**(known | columns))


def test_the_list_is_newest_first_a_page_at_a_time() -> None:
    rows = [operation() for _ in range(120)]
    client, url, seen = signed_in("viewer"), reverse("console:operations"), list[int]()
    while url:
        page = client.get(url)
        seen += [row.pk for row in page.context["rows"]]
        url = f"{reverse('console:operations')}?before={page.context['next']}" if page.context["next"] else ""
    assert seen == [row.pk for row in reversed(rows)]


def test_the_list_has_what_was_started_unless_drafts_are_asked_for() -> None:
    done, draft = operation(), operation(state="draft")
    retry = operation(kind="retry", state="running", error_code="<b>429</b>")
    client, url = signed_in("viewer"), reverse("console:operations")
    for query, expected in (
        ({}, [retry, done]),
        ({"state": "draft"}, [draft]),
        ({"kind": "retry"}, [retry]),
        ({"kind": "cancel", "state": "done"}, [done]),
        ({"kind": "retry", "state": "failed"}, []),
    ):
        assert list(client.get(url, query).context["rows"]) == expected
    assert escape("<b>429</b>") in client.get(url).content.decode()
    assert 'data-live="/console/operations"' in client.get(url).content.decode()
    assert "data-live" not in client.get(url, {"state": "done"}).content.decode()


@pytest.mark.parametrize(
    "query", [{"state": "x"}, {"kind": "x"}, {"before": "x"}, {"before": "0"}, {"before": "9" * 30}]
)
def test_a_bad_filter_is_said(query: dict[str, str]) -> None:
    operation()
    answer = signed_in("viewer").get(reverse("console:operations"), query)
    assert answer.status_code == 400
    assert "notice-error" in answer.content.decode()
    assert list(answer.context["rows"]) == []


@pytest.mark.parametrize("pk", ["0", "9" * 30])
def test_an_operation_that_is_not_there_is_not_found(pk: str) -> None:
    client = signed_in("operator")
    for page in ("", "/start", "/abort"):
        method = client.post if page else client.get
        assert method(f"/console/operations/{pk}{page}").status_code == 404


# Who may


def test_a_viewer_sees_a_draft_and_cannot_start_it() -> None:
    draft(signed_in("operator"), BatchFactory())
    found, viewer = Operation.objects.get(), signed_in("viewer", "vera")
    text = shown(viewer, found)
    assert '<form method="post" action="/console/operations' not in text
    assert "This waits for somebody whose role allows it." in text
    assert start(viewer, found).status_code == 403
    Operation.objects.update(state=State.RUNNING)
    assert viewer.post(reverse("console:abort_operation", args=[found.pk])).status_code == 403
    assert draft(viewer, BatchFactory()).status_code == 403
    assert viewer.post(reverse("console:draft_retry"), {"batch": "x"}).status_code == 403
    assert (Operation.objects.count(), AuditEntry.objects.count()) == (1, 0)


def test_a_colleague_starts_it_in_the_colleague_s_name() -> None:
    draft(signed_in("operator"), BatchFactory())
    start(signed_in("administrator", "ada"), Operation.objects.get())
    assert {entry.actor for entry in AuditEntry.objects.all()} == {"ada"}
    assert Operation.objects.get().created_by == "ada"


@pytest.mark.parametrize("route", ["start_operation", "abort_operation"])
def test_nothing_is_started_or_aborted_by_a_link(route: str) -> None:
    draft(signed_in("operator"), BatchFactory())
    assert signed_in("operator").get(reverse(f"console:{route}", args=[Operation.objects.get().pk])).status_code == 405


# Cost


@pytest.mark.parametrize("count", [1, 60])
def test_the_pages_take_few_queries_however_much_there_is(count: int, django_assert_max_num_queries: Any) -> None:
    client = signed_in("operator")
    batches = [BatchFactory(price=PriceFactory()) for _ in range(count)]
    draft(client, *batches)
    found = Operation.objects.get()
    with django_assert_max_num_queries(12):
        shown(client, found)
    Operation.objects.update(state=State.RUNNING, problems=[[batch.public_id, "completed"] for batch in batches])
    with django_assert_max_num_queries(12):
        shown(client, found)
    for _ in range(count):
        operation()
    with django_assert_max_num_queries(12):
        client.get(reverse("console:operations"))


def test_the_confirmation_of_a_retry_takes_few_queries(django_assert_max_num_queries: Any) -> None:
    batch, client = failed_batch(), signed_in("operator")
    client.post(reverse("console:draft_retry"), {"batch": batch.public_id, "code": ""})
    with django_assert_max_num_queries(12):
        shown(client, Operation.objects.get())


def messages_of(client: Client, path: str) -> str:
    page = client.get(path).content.decode()
    return page.partition('<div class="messages"')[2].partition("</div>")[0]
