"""One line for each request."""

import logging
from typing import Any

import pytest
from django.test import Client

from tests.log_lines import written
from tests.operators import signed_in
from tests.tenants import Tenant

pytestmark = pytest.mark.django_db
KEY = "sk-batch-0123456789abcdef0123456789abcdef"


def lines_of(*paths: str, **headers: str) -> list[dict[str, Any]]:
    with written() as log:
        for path in paths:
            Client().get(path, headers=headers)
    return log.named("config.access_log")


def test_it_says_who_asked_for_what_and_how_that_ended() -> None:
    acme = Tenant("acme")
    batch = acme.has_batch()
    with written() as log:
        answer = acme.get(f"batches/{batch.public_id}", {"after": "x"})
    (line,) = log.named("config.access_log")
    assert line.pop("ms") >= 0
    assert line.pop("timestamp")
    assert line == {
        "level": "info",
        "logger": "config.access_log",
        "event": "request",
        "request_id": answer["x-request-id"],
        "account": "acme",
        "method": "GET",
        "route": "v1/batches/<str:batch_id>",
        "status": 200,
        "batch": batch.public_id,
    }


def test_the_next_request_of_the_thread_is_nobodys_until_its_key_is_known() -> None:
    Tenant("acme").get("models")
    (line,) = lines_of("/v1/models")
    assert (line["status"], "account" in line) == (401, False)


@pytest.mark.parametrize(
    "path",
    [
        f"/v1/batches/{KEY}",
        f"/{KEY}",
        f"/v1/files?after={KEY}",
        f"/console/batches?q={KEY}",
        f"/static/{KEY}",
        f"/v1/{KEY}",
    ],
)
def test_what_somebody_takes_for_an_id_or_a_search_is_not_written(path: str) -> None:
    with written() as log:
        signed_in().get(path, headers={"Authorization": f"Bearer {KEY}", "User-Agent": KEY, "Referer": KEY})
        Client().get(path, headers={"Authorization": f"Bearer {KEY}"})
        Client().generic(KEY, path)
    assert len(log.named("config.access_log")) == 3
    assert KEY not in log.text.lower()  # Django writes methods in capitals


def test_a_probe_that_finds_all_well_is_no_news_and_one_that_does_not_is() -> None:
    assert [line["level"] for line in lines_of("/healthz", "/readyz", "/metrics")] == ["debug"] * 3
    assert [line["level"] for line in lines_of("/metrics", **{"X-Forwarded-For": "203.0.113.9"})] == ["info"]


def test_at_info_a_probe_that_finds_all_well_leaves_no_line() -> None:
    with written(level=logging.INFO) as log:
        Client().get("/healthz")
    assert log.lines == []
