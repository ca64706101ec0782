"""What a confirmation says before batches are cancelled: to the last digit, and of these batches alone."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone

from batches_app import consequences
from batches_app.models import Batch
from batches_app.states import Status
from billing_app.pricing import add
from tests.factories import AccountFactory, BatchFactory, LaneFactory, PriceFactory

pytestmark = pytest.mark.django_db
NOW = timezone.now()


def test_the_cost_is_what_the_batches_cost_together_whatever_their_prices() -> None:
    prices = [
        PriceFactory(input_price=Decimal("0.123456789012"), cached_input_price=Decimal("0.01")),
        PriceFactory(output_price=Decimal(1_000_000), batch_discount=Decimal("0.333333333333")),
    ]
    acme, beta = AccountFactory(name="acme"), AccountFactory(name="beta")
    batches = [
        BatchFactory(account=account, price=price, input_tokens=10**12 + n, cached_tokens=n, output_tokens=7 * n)
        for n, (account, price) in enumerate((a, p) for a in (acme, beta, acme) for p in prices)
    ]
    found = consequences.of([batch.pk for batch in batches], now=NOW)
    assert found.whole.cost == add(batch.cost for batch in batches)
    assert found.by_account["beta"].cost == add(batch.cost for batch in batches[2:4])
    assert list(found.by_account) == ["acme", "beta"]  # the account with the most first


def test_only_what_would_be_cancelled_counts() -> None:
    chosen = [BatchFactory(total=10, completed=3, failed=1, flagged=1)]
    chosen += [BatchFactory(status=Status.VALIDATING, total=0), BatchFactory(status=Status.FINALIZING, total=10)]
    BatchFactory(total=10)  # not chosen
    found = consequences.of([batch.pk for batch in chosen], now=NOW)
    whole = found.whole
    assert (whole.batches, whole.in_progress, whole.validating, found.ended) == (2, 1, 1, 1)
    assert (whole.billed, whole.failed, whole.unrun) == (2, 1, 6)


def test_many_thousands_take_three_queries(django_assert_num_queries: Any) -> None:
    shared = {"account": AccountFactory(), "price": PriceFactory(), "total": 2, "completed": 1}
    Batch.objects.bulk_create(BatchFactory.build_batch(5_000, **shared))
    targets = list(Batch.objects.values_list("pk", flat=True))
    with django_assert_num_queries(3):
        found = consequences.of(targets, now=NOW)
    assert (found.whole.batches, found.whole.unrun) == (5_000, 5_000)


def test_nothing_has_no_consequences() -> None:
    assert consequences.of([], now=NOW).whole == consequences.Consequences()


def test_lines_in_flight_may_still_be_billed_as_those_before_were() -> None:
    price = PriceFactory()
    lane = LaneFactory(in_flight=4, lease_expires_at=NOW + timedelta(seconds=9))
    LaneFactory(model=lane.model, number=1, in_flight=3, lease_expires_at=NOW - timedelta(seconds=9))  # is dead
    LaneFactory(in_flight=100, lease_expires_at=NOW + timedelta(seconds=9))  # has another model
    batch = BatchFactory(model=lane.model, price=price, total=20, completed=10, failed=1, output_tokens=1_000)
    found = consequences.of([batch.pk], now=NOW)
    assert (found.in_flight, found.unrun) == (4, 5)
    assert found.cost_in_flight == found.whole.cost * 4 / 10 > 0
    Batch.objects.update(total=12, completed=0)
    found = consequences.of([batch.pk], now=NOW)
    assert (found.in_flight, found.unrun, found.cost_in_flight) == (4, 7, None)
    Batch.objects.update(total=2, completed=0)
    assert consequences.of([batch.pk], now=NOW).in_flight == 1  # there are no more


def test_what_has_ended_has_nothing_in_flight() -> None:
    lane = LaneFactory(in_flight=4, lease_expires_at=NOW + timedelta(hours=1))
    ended, alive = BatchFactory(model=lane.model, status=Status.FINALIZING), BatchFactory(total=20)
    assert consequences.of([alive.pk, ended.pk], now=NOW).in_flight == 0
