"""The list as CSV: all of it, whatever page is shown."""

import csv
from datetime import UTC, datetime
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from batches_app.console import batch_csv
from batches_app.models import ErrorGroup
from batches_app.states import Status
from tests.factories import PriceFactory
from tests.operators import signed_in
from tests.tenants import Tenant

pytestmark = pytest.mark.django_db
CSV = "/console/batches.csv"
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.fixture
def acme() -> Tenant:
    return Tenant("acme")


def text_of(answer: Any) -> str:
    assert answer.status_code == 200
    return b"".join(answer.streaming_content).decode("utf-8-sig")


def rows(query: dict[str, str] | None = None, client: Client | None = None) -> list[dict[str, str]]:
    return list(csv.DictReader(StringIO(text_of((client or signed_in()).get(CSV, query or {})))))


def test_a_row_has_what_the_list_has_and_more(acme: Tenant) -> None:
    price = PriceFactory(model_name="m", input_price=Decimal("0.3"), output_price=Decimal("0.7"))
    batch = acme.has_batch(
        name="nightly",
        model_name="qwen3",
        status=Status.COMPLETED,
        price=price,
        created_at=NOON,
        total=9,
        completed=6,
        failed=3,
        completed_at=NOON,
        output_file_id="o",
        error_file_id="e",
        input_tokens=11,
        cached_tokens=2,
        output_tokens=5,
        reasoning_tokens=1,
    )
    ErrorGroup.objects.create(batch=batch, code="http_500", count=3, first_line=1)
    assert rows() == [
        {
            "id": batch.public_id,
            "name": "nightly",
            "account": "acme",
            "model": "qwen3",
            "endpoint": "/v1/chat/completions",
            "status": "completed",
            "requests": "9",
            "completed": "6",
            "failed": "3",
            "top_error": "http_500",
            "top_error_count": "3",
            "input_tokens": "11",
            "cached_tokens": "2",
            "output_tokens": "5",
            "reasoning_tokens": "1",
            "charged (USD)": "0.0000034",
            "created_at (UTC)": "2026-11-20 12:00:00",
            "expires_at (UTC)": "2026-11-21 12:00:00",
            "in_progress_at (UTC)": "",
            "completed_at (UTC)": "2026-11-20 12:00:00",
            "failed_at (UTC)": "",
            "expired_at (UTC)": "",
            "cancelled_at (UTC)": "",
            "input_file_id": "file-batch-x",
            "output_file_id": "o",
            "error_file_id": "e",
        }
    ]


def test_times_are_in_the_viewer_s_zone_and_the_header_says_which(acme: Tenant) -> None:
    acme.has_batch(created_at=NOON)
    client = signed_in()
    client.cookies["timezone"] = "Asia/Shanghai"
    assert rows(client=client)[0]["created_at (Asia/Shanghai)"] == "2026-11-20 20:00:00"


def test_it_has_all_that_match_and_not_only_a_page(acme: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_csv, "CHUNK", 7)
    wanted = [acme.has_batch(created_at=NOON, name=f"nightly {n}").public_id for n in range(60)]
    acme.has_batch(name="other")
    shown = {"q": "nightly", "size": "25", "sort": "-failed"}
    assert [row["id"] for row in rows(shown)] == wanted[::-1]


def test_memory_and_queries_depend_on_the_chunk_alone(acme: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_csv, "CHUNK", 10)
    for n in range(25):
        batch = acme.has_batch(failed=1, total=1, price=PriceFactory(model_name=f"m{n}"))
        ErrorGroup.objects.create(batch=batch, code="c", count=1, first_line=1)
    answer = signed_in().get(CSV)
    with CaptureQueriesContext(connection) as captured:
        assert text_of(answer).count("\n") == 26
    assert len(captured) == 4 + 3  # of batches, the last of which finds none; of their errors


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", '=HYPERLINK("http://x","y")', "\uff1d1"])
def test_a_name_is_no_formula(name: str) -> None:
    Tenant(name).has_batch(name=name, model_name=name)
    (row,) = rows()
    assert [row[column][0] for column in ("name", "account", "model")] in (["'"] * 3, list(name[0] * 3))
    assert not row["name"].startswith(("=", "@", "\t", "\uff1d"))


@pytest.mark.parametrize("name", ['a"b,c', "two\nlines", "评测", "x" * 100])
def test_any_name_comes_back_as_it_was(acme: Tenant, name: str) -> None:
    acme.has_batch(name=name)
    assert [row["name"] for row in rows()] == [name]


def test_it_is_a_file_to_download(acme: Tenant) -> None:
    acme.has_batch()
    answer = signed_in().get(CSV)
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert answer.headers["Content-Disposition"].startswith('attachment; filename="batches 20')
    assert answer.streaming


@pytest.mark.parametrize("query", [{"status": "done"}, {"statsu": "failed"}, {"custom_id": "1"}])
def test_bad_filters_are_refused_with_a_sentence(acme: Tenant, query: dict[str, str]) -> None:
    acme.has_batch()
    answer = signed_in().get(CSV, query)
    assert answer.status_code == 400
    assert answer.content.decode().endswith(".")
