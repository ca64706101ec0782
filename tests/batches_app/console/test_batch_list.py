"""The page of batches."""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html import unescape
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from batches_app import progress
from batches_app.console import batch_list
from batches_app.console.batch_view import SORTS
from batches_app.models import Batch, ErrorGroup
from batches_app.states import TERMINAL, Status
from config.console import keyset
from tests.factories import PriceFactory
from tests.operators import signed_in
from tests.tenants import Tenant

pytestmark = pytest.mark.django_db
LIST = "/console/batches"
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
LIVE = {"HX-Request": "true"}


def listed(page: Any) -> list[Batch]:
    assert page.status_code == 200, page.content.decode()[:500]
    return [row.batch for row in page.context["rows"]]


def text_of(page: Any) -> str:
    """What somebody reads."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", page.content.decode())).split())


def follow(client: Client, page: Any, rel: str) -> Any:
    link = re.search(rf'<a [^>]*rel="{rel}" href="([^"]*)"', page.content.decode())
    assert link, f"no {rel}"
    return client.get(LIST + unescape(link[1]))


@pytest.fixture
def acme() -> Tenant:
    return Tenant("acme")


# What the page tells


def test_a_row_tells_what_there_is_to_know(acme: Tenant) -> None:
    price = PriceFactory(model_name="m", input_price=Decimal(2), output_price=Decimal(4))
    tokens = {"input_tokens": 1_000_000, "output_tokens": 500_000, "price": price, "model_name": "qwen3"}
    counts = {"total": 1200, "completed": 400, "failed": 100}
    created = timezone.now() - timedelta(minutes=90)
    batch = acme.has_batch(name="nightly", status=Status.IN_PROGRESS, created_at=created, **counts, **tokens)
    ErrorGroup.objects.create(batch=batch, code="http_500", count=30, first_line=1)
    ErrorGroup.objects.create(batch=batch, code="http_400 context_length_exceeded", count=70, first_line=2)
    page = signed_in().get(LIST)
    seen = text_of(page)
    for words in (
        *("nightly", batch.public_id, "acme", "qwen3", "In progress", "1 batch", "500 of 1,200 requests · 100 failed"),
        *("1 h 30 min ago", "in 22 h ", "2.00 USD", "1,500,000 tokens"),
        *("http_400 context_length_exceeded \N{MULTIPLICATION SIGN}70", "and 1 other code"),
    ):
        assert words in seen, words
    assert 'title="1,000,000 in, 500,000 out"' in page.content.decode()
    assert f'href="{LIST}/{batch.public_id}#errors"' in page.content.decode()


def test_a_batch_that_was_not_valid_tells_the_first_of_its_errors(acme: Tenant) -> None:
    faults = [{"code": "invalid_json_line", "message": "m", "param": None, "line": n} for n in range(3)]
    acme.has_batch(status=Status.FAILED, errors=faults)
    seen = text_of(signed_in().get(LIST))
    assert "invalid_json_line" in seen
    assert "3 errors in validation" in seen


def test_when_a_batch_will_be_done_is_told_and_whether_that_is_too_late(
    acme: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = acme.has_batch(status=Status.IN_PROGRESS, total=9)
    acme.has_batch(status=Status.COMPLETED, total=9)
    monkeypatch.setattr(progress, "rates", lambda ids, *, now: dict.fromkeys(ids, 2.0))
    monkeypatch.setattr(progress, "eta", lambda batch, rate, *, now: now + timedelta(hours=30 * rate))
    page = signed_in().get(LIST)
    assert [(row.batch, row.is_late) for row in page.context["rows"] if row.eta] == [(late, True)]
    assert "late done in 2 d 12 h" in text_of(page)


def test_a_deadline_that_has_passed_is_late_without_an_eta(acme: Tenant) -> None:
    acme.has_batch(status=Status.IN_PROGRESS, created_at=timezone.now() - timedelta(days=2))
    assert [row.is_late for row in signed_in().get(LIST).context["rows"]] == [True]


def test_what_tenants_name_is_shown_and_harmless() -> None:
    nasty = "<script>alert(1)</script>\"'>\u202egnp.exe\u200b=cmd|x" + "a" * 20
    tenant = Tenant(nasty)
    batch = tenant.has_batch(name=nasty, model_name=nasty, status=Status.IN_PROGRESS, total=2, failed=1)
    ErrorGroup.objects.create(batch=batch, code=nasty, count=1, first_line=1)
    client = signed_in()
    client.post("/console/views", {"name": nasty[:60], "query": "q=<script>"})
    for query in ({}, {"q": nasty}, {"account": nasty}, {"model": nasty}, {"q": f"{nasty}x"}):
        page = client.get(LIST, query).content.decode()
        assert "<script>alert" not in page
        assert "\u202e" not in re.sub(r'(value|href|data-live)="[^"]*"', "", page)
        assert " style=" not in page
        assert "onclick" not in page


def test_a_first_visit_says_how_to_make_a_batch() -> None:
    page = signed_in().get(LIST, headers={"Host": "localhost:8000"})
    seen = text_of(page)
    assert "No batch yet" in seen
    assert "http://localhost:8000/v1/files" in seen
    assert 'base_url="http://localhost:8000/v1"' in seen
    assert 'href="/console/accounts"' in page.content.decode()


def test_where_nothing_matches_each_filter_can_be_taken_away(acme: Tenant) -> None:
    acme.has_batch()
    page = signed_in().get(LIST, {"account": "acme", "status": "failed"})
    assert "No batch matches" in text_of(page)
    assert [chip.without for chip in page.context["chips"]] == ["account=acme", "status=failed"]
    assert "No batch yet" not in text_of(page)


# The address


def test_the_address_alone_brings_the_view_back(acme: Tenant) -> None:
    for number in range(60):
        acme.has_batch(name=f"nightly {number}", total=number)
    client = signed_in()
    second = follow(client, client.get(LIST, {"q": "nightly", "sort": "requests", "size": "25"}), "next")
    address = second.wsgi_request.get_full_path()
    assert listed(signed_in(name="bo").get(address)) == listed(second)
    assert [batch.total for batch in listed(second)] == list(range(25, 50))
    assert 'value="nightly"' in second.content.decode()


def test_what_a_form_leaves_empty_does_not_stay_in_the_address(acme: Tenant) -> None:
    acme.has_batch()
    answer = signed_in().get(LIST, {"q": "", "account": "acme", "sort": "", "status": ["", "failed"], "size": ""})
    assert answer.headers["Location"] == f"{LIST}?account=acme&status=failed"


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("statsu=failed", "There is no filter “statsu”."),
        ("statsu=", "There is no filter “statsu”."),
        ("status=done", "done is not one of the available choices."),
        ("created_from=gestern", "Created from: Write a date"),
        ("sort=name", "Order: Select a valid choice."),
        ("size=51", "Rows: Select a valid choice."),
        ("size=x", "Rows: Select a valid choice."),
        ("after=x", "There is no such page in this order."),
        ("before=x", "There is no such page in this order."),
        ("sort=name&after=x", "Order: Select a valid choice."),
        ("custom_id=1&before={cursor}", "A search by custom_id goes forward only."),
        ("after={cursor}&sort=failed", "There is no such page in this order."),
        ("after={cursor}&before={cursor}", "“after” and “before” do not go together."),
        ("sort=created&sort=failed", "“sort” is given more than once."),
        (f"after={'x' * 201}", "After: Ensure this value has at most 200 characters"),
    ],
)
def test_a_bad_parameter_is_a_message_and_no_list(acme: Tenant, query: str, sentence: str) -> None:
    batch = acme.has_batch()
    cursor = keyset.cursor(batch, SORTS["-created"][0])
    page = signed_in().get(f"{LIST}?{query.format(cursor=cursor)}")
    assert page.status_code == 400
    assert sentence in text_of(page)
    assert batch.public_id not in text_of(page)


def test_chips_take_their_filter_away_and_go_to_the_first_page(acme: Tenant) -> None:
    batch = acme.has_batch(status=Status.FAILED, name="eval")
    query = {"status": "failed,expired", "q": "eval", "created_from": "24h", "has_errors": "no", "account": "acme"}
    cursor = keyset.cursor(batch, SORTS["-created"][0])
    page = signed_in().get(LIST, query | {"after": cursor, "size": "25"})
    chips = {(str(chip.label), str(chip.value)): chip.without for chip in page.context["chips"]}
    rest = "created_from=24h&has_errors=no&account=acme&size=25"
    assert chips["Status", "Failed"] == f"status=expired&q=eval&{rest}"
    assert chips["Search", "eval"] == f"status=failed%2Cexpired&{rest}"
    assert {value for _label, value in chips} == {"Failed", "Expired", "eval", "24h", "None", "acme"}


def test_presets_are_on_where_their_filters_are_and_leave_the_others(acme: Tenant) -> None:
    acme.has_batch()
    page = signed_in().get(LIST, {"status": "failed", "account": "acme"})
    segments = {str(segment.label): segment for segment in page.context["segments"]}
    assert [name for name, segment in segments.items() if segment.is_on] == ["Failed"]
    assert segments["All"].query == "account=acme"
    assert segments["Due within 1 h"].query == "account=acme&status=under_way&deadline_before=1h"


def test_each_preset_leads_to_a_list_where_it_is_on(acme: Tenant) -> None:
    acme.has_batch()
    client = signed_in()
    for segment in client.get(LIST).context["segments"]:
        page = client.get(f"{LIST}?{segment.query}")
        assert page.status_code == 200
        assert [one.label for one in page.context["segments"] if one.is_on] == [segment.label]


# Order and pages


@pytest.mark.parametrize("sort", SORTS)
def test_every_order_goes_through_all_batches_and_back(acme: Tenant, sort: str) -> None:
    rows = [acme.has_batch(created_at=NOON + timedelta(days=n // 3), total=n // 4, failed=n // 5) for n in range(30)]
    client = signed_in()
    first = client.get(LIST, {"sort": sort, "size": "25"})
    second = follow(client, first, "next")
    order, _label = SORTS[sort]
    wanted = sorted(rows, key=lambda batch: (getattr(batch, order.column), batch.pk), reverse=order.descending)
    assert listed(first) + listed(second) == wanted
    assert listed(follow(client, second, "prev")) == listed(first)


def test_pages_stay_where_they_are_while_batches_come(acme: Tenant) -> None:
    rows = [acme.has_batch(created_at=NOON) for _ in range(60)][::-1]
    client = signed_in()
    first = client.get(LIST, {"size": "25"})
    for _ in range(5):
        acme.has_batch(created_at=NOON)
    second = follow(client, first, "next")
    assert listed(first) + listed(second) == rows[:50]


def test_on_the_way_back_the_first_page_is_a_whole_one(acme: Tenant) -> None:
    for _ in range(30):
        acme.has_batch()
    client = signed_in()
    second = follow(client, client.get(LIST, {"size": "25"}), "next")
    new = [acme.has_batch() for _ in range(3)]
    back = follow(client, follow(client, second, "prev"), "prev")
    assert back.headers["Location"] == f"{LIST}?size=25"
    assert listed(client.get(back.headers["Location"]))[:3] == new[::-1]


def test_a_page_beyond_the_last_row_leads_back(acme: Tenant) -> None:
    batch = acme.has_batch()
    page = signed_in().get(LIST, {"after": keyset.cursor(batch, SORTS["-created"][0])})
    assert "The list ends before this page" in text_of(page)
    assert "No batch yet" not in text_of(page)


def test_the_order_is_told_to_those_who_do_not_see_the_arrow(acme: Tenant) -> None:
    acme.has_batch()
    client = signed_in()
    html = client.get(LIST, {"sort": "deadline", "status": "under_way"}).content.decode()
    assert re.findall(r'aria-sort="(\w+)"><a href="([^"]*)">(\w+)', html) == [
        ("ascending", "?sort=-deadline&amp;status=under_way", "Deadline")
    ]
    assert re.findall(r'aria-sort="(\w+)"><a href="([^"]*)">(\w+)', client.get(LIST).content.decode()) == [
        ("descending", "?sort=created", "Created")
    ]


def test_counting_ends_at_ten_thousand(acme: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyset, "MOST_COUNTED", 2)
    monkeypatch.setattr(batch_list, "MOST_COUNTED", 2)
    for _ in range(3):
        acme.has_batch()
    page = signed_in().get(LIST)
    assert "More than 2 batches" in text_of(page)
    assert "Cancel all that match…" in text_of(page)


# Live


@pytest.mark.parametrize("status", list(Status))
def test_the_list_is_live_while_a_batch_on_it_is_under_way(acme: Tenant, status: Status) -> None:
    acme.has_batch(status=Status.COMPLETED)
    acme.has_batch(status=status)
    page = signed_in().get(LIST, {"account": "acme"}).content.decode()
    assert ('data-live="/console/batches?account=acme"' in page) == (status not in TERMINAL)


def test_a_live_part_is_the_table_alone(acme: Tenant) -> None:
    batch = acme.has_batch()
    client = signed_in()
    part = client.get(LIST, {"account": "acme"}, headers=LIVE).content.decode().strip()
    assert part.startswith('<section id="batches"')
    assert part.endswith("</section>")
    Batch.objects.filter(pk=batch.pk).update(status=Status.COMPLETED)
    assert "data-live" not in client.get(LIST, {"account": "acme"}, headers=LIVE).content.decode()


# Who may do what


def test_who_may_cancel_selects_what_can_be_cancelled(acme: Tenant) -> None:
    batches = {status: acme.has_batch(status=status) for status in Status}
    page = signed_in("operator").get(LIST).content.decode()
    offered = re.findall(r'name="ids" value="(\w+)"', page)
    assert {*offered} == {batches[status].public_id for status in (Status.VALIDATING, Status.IN_PROGRESS)}
    assert 'action="/console/operations/cancel"' in page


def test_the_form_to_cancel_carries_the_filters(acme: Tenant) -> None:
    batch = acme.has_batch()
    cursor = keyset.cursor(batch, SORTS["deadline"][0])
    acme.has_batch()
    page = signed_in().get(LIST, {"account": "acme", "q": "batch_", "sort": "deadline", "after": cursor})
    assert 'name="query" value="account=acme&amp;q=batch_&amp;sort=deadline"' in page.content.decode()
    assert "Cancel all that match…" in text_of(page)


def test_where_none_of_those_that_match_can_be_cancelled_all_is_not_offered(acme: Tenant) -> None:
    acme.has_batch(status=Status.FINALIZING)
    acme.has_batch()
    page = signed_in().get(LIST, {"status": "finalizing,failed"}).content.decode()
    assert 'name="all"' not in page
    page = signed_in().get(LIST, {"status": "finalizing,validating"}).content.decode()
    assert 'name="all"' in page


@pytest.mark.parametrize("role", ["viewer", "billing"])
def test_who_may_not_cancel_is_not_asked_to_select(acme: Tenant, role: str) -> None:
    acme.has_batch()
    page = signed_in(role).get(LIST)
    assert listed(page)
    assert "data-row" not in page.content.decode()
    assert "operations/cancel" not in page.content.decode()


@pytest.mark.parametrize(("role", "may"), [("viewer", False), ("operator", False), ("administrator", True)])
def test_the_search_by_custom_id_is_for_those_who_may_read_contents(acme: Tenant, role: str, may: bool) -> None:
    acme.has_batch()
    client = signed_in(role)
    assert ("custom_id" in text_of(client.get(LIST))) == may
    assert client.get(LIST, {"custom_id": "1"}).status_code == (200 if may else 403)


# Costs


def crowd(acme: Tenant, number: int) -> None:
    for n in range(number):
        price = PriceFactory(model_name=f"m{n}")
        batch = acme.has_batch(status=list(Status)[n % 8], total=9, failed=2, price=price, name="eval", model_name="m")
        ErrorGroup.objects.create(batch=batch, code=f"c{n}", count=2, first_line=1)


def queries(client: Client, query: dict[str, str], **headers: Any) -> int:
    with CaptureQueriesContext(
        connection,
    ) as captured:
        assert client.get(LIST, query, **headers).status_code == 200
    return len(captured)


def test_the_queries_do_not_grow_with_the_rows_and_are_no_more_than_twelve(acme: Tenant) -> None:
    client = signed_in("administrator")
    client.post("/console/views", {"name": "mine", "query": "status=failed"})
    query = {"account": "acme", "q": "eval", "model": "m", "created_from": "24h", "size": "100"}
    crowd(acme, 8)
    few = queries(client, query)
    crowd(acme, 60)
    assert queries(client, query) == few <= 12
    assert queries(client, query, headers=LIVE) <= 10
    Batch.objects.update(expires_at=timezone.now() - timedelta(hours=1))
    assert queries(client, query | {"attention": "late"}) <= 12
