"""The filters of the list of batches: each by itself, and what is none."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.http import QueryDict
from django.utils import timezone

from batches_app.console.batch_filters import BatchFilters, InvalidFilters, chips, filtered
from batches_app.models import Batch, Shard
from batches_app.states import TERMINAL, Status
from tests.factories import BatchFactory, ShardFactory
from tests.operators import signed_in
from tests.tenants import Tenant

pytestmark = pytest.mark.django_db


@pytest.fixture
def acme() -> Tenant:
    return Tenant("acme")


def found(query: str) -> list[Batch]:
    return list(filtered(QueryDict(query)).order_by("pk"))


def test_without_filters_all_are_there(acme: Tenant) -> None:
    batch = acme.has_batch()
    assert found("") == [batch]


# Status


@pytest.mark.parametrize("query", ["status=failed,expired", "status=failed&status=expired", "status=+failed+,expired,"])
def test_several_states_by_comma_or_repeated(acme: Tenant, query: str) -> None:
    wanted = [acme.has_batch(status=status) for status in (Status.FAILED, Status.EXPIRED)]
    acme.has_batch(status=Status.COMPLETED)
    assert found(query) == wanted


@pytest.mark.parametrize("status", list(Status))
def test_each_state(acme: Tenant, status: Status) -> None:
    for other in Status:
        acme.has_batch(status=other)
    assert [batch.status for batch in found(f"status={status}")] == [status]


def test_under_way_is_what_has_not_ended(acme: Tenant) -> None:
    for status in Status:
        acme.has_batch(status=status)
    assert {batch.status for batch in found("status=under_way")} == {*Status} - TERMINAL


def test_under_way_goes_with_other_states(acme: Tenant) -> None:
    wanted = [acme.has_batch(status=status) for status in (Status.VALIDATING, Status.FAILED)]
    acme.has_batch(status=Status.COMPLETED)
    assert found("status=under_way,failed") == wanted


# Whose, of what


def test_an_account_by_its_exact_name(acme: Tenant) -> None:
    wanted = acme.has_batch()
    Tenant("acme 2").has_batch()
    assert found("account=acme") == [wanted]


def test_a_model_by_its_exact_name(acme: Tenant) -> None:
    wanted = acme.has_batch(model_name="qwen/7b:free")
    acme.has_batch(model_name="qwen/7b")
    assert found("model=qwen/7b:free") == [wanted]


def test_an_endpoint(acme: Tenant) -> None:
    wanted = acme.has_batch(endpoint="/v1/embeddings")
    acme.has_batch()
    assert found("endpoint=/v1/embeddings") == [wanted]


def test_with_and_without_failed_requests(acme: Tenant) -> None:
    some, none = acme.has_batch(failed=1, total=2), acme.has_batch(total=2)
    assert found("has_errors=yes") == [some]
    assert found("has_errors=no") == [none]


def test_what_the_overview_says_needs_attention(acme: Tenant) -> None:
    now = timezone.now()
    wanted = acme.has_batch(status=Status.FAILED, failed_at=now - timedelta(hours=1))
    acme.has_batch(status=Status.FAILED, failed_at=now - timedelta(days=9), created_at=now - timedelta(days=9))
    assert found("attention=failed") == [wanted]


# When


def test_a_day_is_the_viewer_s_from_its_beginning_to_its_end(acme: Tenant) -> None:
    zone = ZoneInfo("Asia/Shanghai")
    times = [datetime(2026, 11, 19, 23, 59, 59), datetime(2026, 11, 20), datetime(2026, 11, 20, 23, 59, 59)]  # noqa: DTZ001  # the zone is set below
    _day_before, first, last = (acme.has_batch(created_at=time.replace(tzinfo=zone)) for time in times)
    day_after = acme.has_batch(created_at=datetime(2026, 11, 21, tzinfo=zone))
    with timezone.override(zone):
        assert found("created_from=2026-11-20&created_to=2026-11-20") == [first, last]
        assert found("created_from=2026-11-20") == [first, last, day_after]


@pytest.mark.parametrize("moment", ["2026-11-20 14:30", "2026-11-20T14:30", "2026-11-20T14:30:00", "2026-11-20T13:30Z"])
def test_a_time_is_in_the_viewer_s_zone_unless_it_has_its_own(acme: Tenant, moment: str) -> None:
    at = datetime(2026, 11, 20, 13, 30, tzinfo=UTC)
    before, then = acme.has_batch(created_at=at - timedelta(seconds=1)), acme.has_batch(created_at=at)
    with timezone.override(ZoneInfo("Europe/Berlin")):
        assert found(f"created_from={moment}") == [then]
        assert found(f"created_to={moment}") == [before]


def test_a_span_goes_back_from_now_for_what_was_created(acme: Tenant) -> None:
    now = timezone.now()
    old = acme.has_batch(created_at=now - timedelta(hours=25))
    new = acme.has_batch(created_at=now - timedelta(hours=23))
    assert found("created_from=24h") == [new]
    assert found("created_to=24h") == [old]
    assert found("created_from=2d&created_to=90m") == [old, new]


def test_a_span_goes_forward_from_now_for_deadlines(acme: Tenant) -> None:
    now = timezone.now()
    soon = acme.has_batch(created_at=now - timedelta(hours=23, minutes=30))
    later = acme.has_batch(created_at=now)
    assert found("deadline_before=1h") == [soon]
    assert found("deadline_after=1h") == [later]


def test_deadlines_between_two_days(acme: Tenant) -> None:
    first, _second = (acme.has_batch(created_at=datetime(2026, 11, day, 12, tzinfo=UTC)) for day in (20, 21))
    assert found("deadline_after=2026-11-21&deadline_before=2026-11-22") == [first]


def test_an_hour_that_a_clock_skips_is_taken_for_what_it_would_have_been(acme: Tenant) -> None:
    wanted = acme.has_batch(created_at=datetime(2026, 3, 29, 1, 30, tzinfo=UTC))
    with timezone.override(ZoneInfo("Europe/Berlin")):
        assert found("created_from=2026-03-29 02:30") == [wanted]


# Search


def test_a_batch_by_its_id_or_the_beginning_of_it(acme: Tenant) -> None:
    wanted = acme.has_batch(public_id="batch_" + "a1" * 16)
    acme.has_batch(public_id="batch_" + "a2" * 16)
    assert found(f"q={wanted.public_id}") == [wanted]
    assert found("q=batch_a1") == [wanted]
    assert len(found("q=batch_a")) == 2


@pytest.mark.parametrize("column", ["input_file_id", "output_file_id", "error_file_id"])
def test_a_batch_by_its_files(acme: Tenant, column: str) -> None:
    columns: dict[str, Any] = {column: "file-batch-77"}
    wanted = acme.has_batch(**columns)
    acme.has_batch()
    assert found("q=file-batch-77") == [wanted]
    assert found("q=file-batch-7") == []


@pytest.mark.parametrize(
    ("text", "hits"), [("ightly", True), ("NIGHTLY eval", True), ("评测运", True), ("nightly x", False)]
)
def test_a_batch_by_part_of_its_name(acme: Tenant, text: str, hits: bool) -> None:
    wanted = acme.has_batch(name="nightly eval 评测运行")
    acme.has_batch(name="other")
    assert found(f"q={text}") == ([wanted] if hits else [])


@pytest.mark.parametrize(("text", "hits"), [("n", True), ("NI", True), ("ig", False), ("--", False)])
def test_less_than_three_letters_are_looked_for_at_the_beginning(acme: Tenant, text: str, hits: bool) -> None:
    wanted = acme.has_batch(name="nightly--")
    assert found(f"q={text}") == ([wanted] if hits else [])
    filters = BatchFilters(QueryDict(f"q={text}"), now=timezone.now())
    assert filters.is_valid()
    assert "at the beginning" in str(chips(filters)[0].label)


@pytest.mark.parametrize("text", ["%25", "_", "100%25", "a_b", "\\", "'; DROP TABLE x", "%F0%9F%98%80"])
def test_a_search_takes_every_character_for_itself(acme: Tenant, text: str) -> None:
    query = QueryDict(f"q={text}")
    wanted = acme.has_batch(name=query["q"] + "…")
    acme.has_batch(name="aXb 100")
    assert list(filtered(query)) == [wanted]


def test_filters_go_together(acme: Tenant) -> None:
    wanted = acme.has_batch(name="nightly", status=Status.COMPLETED, failed=2, total=9, model_name="m")
    acme.has_batch(name="nightly", status=Status.COMPLETED, failed=0, total=9, model_name="m")
    Tenant("other").has_batch(name="nightly", status=Status.COMPLETED, failed=2, total=9, model_name="m")
    query = "q=nightly&status=completed&has_errors=yes&account=acme&model=m&created_from=1h&deadline_after=1h"
    assert found(query) == [wanted]


def test_running_and_waiting_are_what_the_overview_counts() -> None:
    running, waiting = ShardFactory(state=Shard.State.RUNNING).batch, ShardFactory().batch
    ShardFactory(batch=running, first_line=300)
    unchecked = BatchFactory(status=Status.VALIDATING)
    ShardFactory(state=Shard.State.RUNNING, batch__status=Status.CANCELLING)
    assert found("work=running") == [running]
    assert {*found("work=waiting")} == {waiting, unchecked}
    page = signed_in().get("/console/").context["under_way"]
    assert (page.running, page.waiting) == (1, 2)


# What is no filter

BAD = {
    "status=done": "Status: Select a valid choice. done is not one of the available choices.",
    "status=failed,done": "Status: Select a valid choice. done is not one of the available choices.",
    "account=nobody": "Account: There is no account of this name.",
    "account=ac%00me": "Account: Null characters are not allowed.",
    "model=m%00": "Model: Null characters are not allowed.",
    f"model={'m' * 201}": "Model: Ensure this value has at most 200 characters (it has 201).",
    "endpoint=/v1/audio": "Endpoint: Select a valid choice. /v1/audio is not one of the available choices.",
    "created_from=gestern": "Created from: Write a date",
    "created_from=2026-02-30": "Created from: Write a date",
    "created_to=0001-01-01": "Created to: Write a date",
    "created_to=9999-12-31": "Created to: Write a date",
    "created_from=0001-01-01T00:00:00%2B14:00": "Created from: Write a date",
    "deadline_after=-1h": "Deadline after: Write a date",
    "deadline_before=1000000d": "Deadline before: Write a date",
    "deadline_before=1w": "Deadline before: Write a date",
    "created_from=2026-11-20%00": "Created from: Null characters are not allowed.",
    "has_errors=maybe": "Failed requests: Select a valid choice. maybe is not one of the available choices.",
    "attention=me": "Needs attention: Select a valid choice. me is not one of the available choices.",
    "q=%00": "Search: Null characters are not allowed.",
    f"q={'x' * 201}": "Search: Ensure this value has at most 200 characters (it has 201).",
    "custom_id=%00": "custom_id: Null characters are not allowed.",
    "statsu=failed": "There is no filter “statsu”.",
    "page=2": "There is no filter “page”.",
    "account=acme&account=other": "“account” is given more than once.",
    "q=a&q=a": "“q” is given more than once.",
}


@pytest.mark.parametrize("query", BAD)
def test_what_is_no_filter_is_refused_with_a_sentence(acme: Tenant, query: str) -> None:
    with pytest.raises(InvalidFilters) as refusal:
        filtered(QueryDict(query))
    assert BAD[query] in str(refusal.value)


def test_how_a_list_is_shown_does_not_change_which_batches_it_has(acme: Tenant) -> None:
    acme.has_batch()
    assert len(found("sort=deadline&size=25&after=x")) == 1


def test_a_search_by_custom_id_is_not_taken_for_all_that_match(acme: Tenant) -> None:
    """Whoever cancels what it shows must not cancel the others too."""
    acme.has_batch()
    with pytest.raises(InvalidFilters):
        filtered(QueryDict("custom_id=1"))
