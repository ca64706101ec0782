"""Pages of long lists: nothing twice, nothing left out, whatever shares a value or comes meanwhile."""

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from batches_app.models import Batch
from config.console import keyset
from config.console.keyset import BadCursor, Place, Sort
from tests.tenants import Tenant

pytestmark = pytest.mark.django_db
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
NEWEST, OLDEST = Sort("created_at", descending=True), Sort("created_at", descending=False)
MOST_FAILED = Sort("failed", descending=True)


def batches(number: int, **columns: Any) -> list[Batch]:
    tenant = Tenant(f"tenant {Batch.objects.count()}")
    return [tenant.has_batch(created_at=NOON, **columns) for _ in range(number)]


def page(sort: Sort, cursor: str | None = None, *, backwards: bool = False, size: int = 3) -> keyset.Page[Batch]:
    at = keyset.place(cursor, sort, Batch, backwards=backwards) if cursor else Place()
    return keyset.page(Batch.objects.all(), sort, at, size)


def walked(sort: Sort) -> list[Batch]:
    found, here = [], page(sort)
    while True:
        found += here.rows
        if here.after is None:
            return found
        here = page(sort, here.after)


@pytest.mark.parametrize("sort", [NEWEST, OLDEST, MOST_FAILED, Sort("failed", descending=False)])
def test_rows_that_share_their_value_come_once_each(sort: Sort) -> None:
    rows = [*batches(5, failed=0, total=9), *batches(5, failed=3, total=9)]
    found = walked(sort)
    assert {*found} == {*rows}
    assert len(found) == 10
    if sort.column == "failed":
        assert [row.failed for row in found] == sorted((row.failed for row in rows), reverse=sort.descending)


def test_the_same_rows_come_back_on_the_way_back() -> None:
    batches(8)
    first = page(NEWEST)
    second = page(NEWEST, first.after)
    third = page(NEWEST, second.after)
    assert page(NEWEST, third.before, backwards=True).rows == second.rows
    assert page(NEWEST, second.before, backwards=True).rows == first.rows


def test_only_the_pages_that_there_are_have_a_cursor() -> None:
    batches(4)
    first = page(NEWEST)
    last = page(NEWEST, first.after)
    assert (first.before, last.after) == (None, None)
    assert len(last.rows) == 1
    back = page(NEWEST, last.before, backwards=True)
    assert (back.before, back.after is not None) == (None, True)


def test_what_comes_meanwhile_moves_nothing() -> None:
    rows = batches(6)
    first = page(NEWEST)
    batches(4)
    assert page(NEWEST, first.after).rows == rows[2::-1]


def test_what_goes_meanwhile_moves_nothing() -> None:
    rows = batches(6)
    first = page(NEWEST)
    first.rows[-1].delete()
    assert page(NEWEST, first.after).rows == rows[2::-1]


def test_a_row_that_goes_while_a_page_is_found_takes_no_page_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    batches(7)
    find = keyset._few

    def find_and_lose(*args: Any) -> tuple[int, list[int]]:
        count, ids = find(*args)
        Batch.objects.get(pk=ids[1]).delete()
        return count, ids

    monkeypatch.setattr(keyset, "_few", find_and_lose)
    first = page(NEWEST)
    assert (len(first.rows), first.after is None) == (2, False)


@pytest.mark.parametrize("few", [True, False])
def test_order_and_place_are_the_same_whether_few_match_or_many(few: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyset, "MOST_COUNTED", 100 if few else 2)
    rows = batches(7)
    assert walked(NEWEST) == rows[::-1]
    assert walked(OLDEST) == rows


@pytest.mark.parametrize("sort", [NEWEST, OLDEST])
def test_columns_say_what_comes_along_and_nothing_about_which_or_in_what_order(sort: Sort) -> None:
    rows = batches(7)
    chosen, columns = Batch.objects.exclude(pk=rows[3].pk), Batch.objects.select_related("account").defer("errors")
    found = keyset.page(chosen, sort, Place(), 4, columns=columns)
    assert found.rows == keyset.page(chosen, sort, Place(), 4).rows
    assert (found.count, "account" in found.rows[0]._state.fields_cache) == (6, True)
    chunks = keyset.chunks(chosen, sort, 4, columns=columns)
    assert [len(chunk) for chunk in chunks] == [4, 2]


def test_counting_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyset, "MOST_COUNTED", 4)
    batches(4)
    assert page(NEWEST).count == 4
    batches(4)
    assert page(NEWEST).count == 5


def test_chunks_have_all_rows_in_order() -> None:
    rows = batches(7)
    chunks = list(keyset.chunks(Batch.objects.all(), NEWEST, 3))
    assert [len(chunk) for chunk in chunks] == [3, 3, 1]
    assert [row for chunk in chunks for row in chunk] == rows[::-1]


def encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "äöü",
        "AAAA",
        "[[[[",
        base64.urlsafe_b64encode(b"[" * 100_000).decode(),
        encoded(None),
        encoded([1, 2, 3]),
        encoded({"created_at": 1}),
        encoded(["failed", "0", 5]),  # of another order
        encoded(["id", "0", 5]),
        encoded(["created_at", "2026-11-20T12:00:00+00:00", "5"]),
        encoded(["created_at", "2026-11-20T12:00:00+00:00", True]),
        encoded(["created_at", "2026-11-20T12:00:00+00:00", 10**30]),
        encoded(["created_at", "2026-11-20T12:00:00+00:00"]),
        encoded(["created_at", "2026-11-20T12:00:00", 5]),  # without a zone
        encoded(["created_at", "0001-01-01T00:00:00+14:00", 5]),
        encoded(["created_at", "9999-12-31T23:59:59-14:00", 5]),
        encoded(["created_at", "2026-13-20T12:00:00+00:00", 5]),
        encoded(["created_at", None, 5]),
        encoded(["created_at", [], 5]),
    ],
)
def test_a_cursor_of_somebody_s_making_is_refused(cursor: str) -> None:
    with pytest.raises(BadCursor):
        keyset.place(cursor, NEWEST, Batch, backwards=False)


@pytest.mark.parametrize("value", ["x", 10**30, "1e5", None, [], {}])
def test_a_number_of_somebody_s_making_is_refused(value: object) -> None:
    with pytest.raises(BadCursor):
        keyset.place(encoded(["failed", value, 5]), MOST_FAILED, Batch, backwards=False)


@pytest.mark.parametrize("number", ["Infinity", "1e999", "NaN"])
def test_a_number_that_is_none_is_no_place(number: str) -> None:
    cursor = base64.urlsafe_b64encode(f'["total",{number},1]'.encode()).decode()
    with pytest.raises(BadCursor):
        keyset.place(cursor, Sort("total", descending=True), Batch, backwards=False)
