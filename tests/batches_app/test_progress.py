"""How fast a batch gets on, and when it will be done."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from batches_app import progress, results
from batches_app.models import Batch, Checkpoint
from batches_app.results import IndexEntry
from batches_app.states import Status
from billing_app.pricing import Tokens
from tests import books
from tests.factories import BatchFactory

pytestmark = pytest.mark.django_db
NOW = timezone.now()


def done(batch: Batch, lines: int, seconds_ago: float) -> None:
    Checkpoint.objects.create(
        batch=batch,
        blob=f"checkpoints/{batch.pk}/{seconds_ago}",
        index=results.pack_index(IndexEntry(line, False, 10) for line in range(1, lines + 1)),
        first_line=1,
        last_line=lines,
        lane_token=1,
        created_at=NOW - timedelta(seconds=seconds_ago),
    )


def running(seconds: float, **columns: Any) -> Batch:
    batch: Batch = BatchFactory(in_progress_at=NOW - timedelta(seconds=seconds), **columns)
    return batch


def test_the_rate_is_that_of_the_last_two_minutes() -> None:
    batch = running(3600)
    done(batch, 240, 60)
    done(batch, 120, 119)
    done(batch, 5000, 121)
    assert progress.rates([batch.pk], now=NOW) == {batch.pk: 3.0}


def test_a_batch_that_has_just_begun_is_measured_from_its_beginning() -> None:
    batch = running(10)
    done(batch, 50, 1)
    assert progress.rates([batch.pk], now=NOW) == {batch.pk: 5.0}


def test_batches_have_rates_of_their_own_and_none_without_results() -> None:
    first, second, third = running(3600), running(3600), running(3600)
    done(first, 120, 1)
    done(second, 240, 1)
    assert progress.rates([first.pk, second.pk, third.pk], now=NOW) == {first.pk: 1.0, second.pk: 2.0}


def test_tokens_a_minute_are_those_that_were_booked_meanwhile() -> None:
    batch = running(3600)
    tokens = Tokens(input=1000, output=200)
    assert batch.price
    for minutes_ago in (0.5, 1.5, 2.5):
        now = NOW - timedelta(minutes=minutes_ago)
        books.use(batch.account, batch.price, tokens, batch_id=batch.public_id, now=now)
    done(batch, 60, 30)
    books.use(batch.account, batch.price, tokens, batch_id="batch_other", now=NOW)
    assert progress.speed(batch, now=NOW) == (0.5, 1200.0)
    assert progress.speed(running(10), now=NOW) == (0.0, 0.0)


def test_a_batch_of_which_all_failed_used_no_tokens() -> None:
    batch = running(3600)
    done(batch, 240, 60)
    assert progress.speed(batch, now=NOW) == (2.0, 0.0)


def test_what_is_left_at_this_rate_tells_the_end() -> None:
    batch = running(10, total=1000, completed=600, failed=100)
    assert progress.eta(batch, 10.0, now=NOW) == NOW + timedelta(seconds=30)


@pytest.mark.parametrize(
    ("rate", "status"), [(0.0, Status.IN_PROGRESS), (1e-9, Status.IN_PROGRESS), (5.0, "cancelling")]
)
def test_nobody_tells_the_end_of_a_batch_that_stands_crawls_or_is_stopped(rate: float, status: str) -> None:
    assert progress.eta(running(10, status=status), rate, now=NOW) is None


def test_what_has_ended_is_not_late() -> None:
    batch = running(3600, expires_at=NOW - timedelta(hours=1))
    assert progress.is_late(batch, None, now=NOW)
    batch.status = Status.COMPLETED
    assert not progress.is_late(batch, None, now=NOW)
