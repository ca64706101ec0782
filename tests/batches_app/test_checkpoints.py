"""The one atomic fact: results, charge, counters and lease commit together or not at all."""

from decimal import Decimal

import pytest
from django.core.files.storage import default_storage
from django.db import IntegrityError
from django.utils import timezone

from batches_app import checkpoints, lanes
from batches_app.checkpoints import BatchFacts, LineResult, Window
from batches_app.lanes import HeldLane, LeaseLost, Report
from batches_app.models import Batch, BatchEvent, Checkpoint, Lane, Shard
from billing_app import ledger
from billing_app.models import Balance, LedgerEntry
from billing_app.pricing import Tokens
from tests.factories import BatchFactory, LaneFactory, PriceFactory, ShardFactory

pytestmark = pytest.mark.django_db
NOW = timezone.now()


@pytest.fixture
def shard() -> Shard:
    lane = LaneFactory()
    made: Shard = ShardFactory(model=lane.model, batch=BatchFactory())
    held = lanes.acquire(lane.pk, now=NOW)
    assert held is not None
    claimed = lanes.claim(held)
    assert claimed == made
    made.refresh_from_db()
    return made


def _held(shard: Shard) -> HeldLane:
    lane = Lane.objects.get(shards=shard)
    return HeldLane(lane.pk, lane.model_id, lane.token)


def _window(shard: Shard, *results: LineResult) -> Window:
    batch = shard.batch
    assert batch.price is not None
    return Window(BatchFacts(batch.pk, batch.public_id, batch.account_id, None, batch.price), list(results))


USED = Tokens(1000, 0, 500)


def _success(line: int, tokens: Tokens | None = USED) -> LineResult:
    return LineResult(line, b'{"line": %d}\n' % line, True, tokens)


def test_results_charge_and_counters_commit_together(shard: Shard) -> None:
    """M1, M4: one entry for the window, at half the list price, to the last digit."""
    window = _window(shard, _success(1), _success(2, None), LineResult(3, b"{}\n", False, None))
    assert checkpoints.flush(_held(shard), [window], [shard.pk], Report(), now=NOW) == frozenset()
    batch = Batch.objects.get(pk=shard.batch_id)
    assert (batch.completed, batch.failed, batch.flagged) == (2, 1, 1)
    assert batch.tokens == Tokens(1000, 0, 500)
    bill = ledger.bill(batch.public_id)
    assert (bill.requests, bill.charged) == (1, Decimal("0.000225"))
    assert bill.charged * 2 == bill.list_amount
    shard.refresh_from_db()
    assert shard.state == Shard.State.DONE
    assert checkpoints.done_lines(shard) == {1, 2, 3} & set(range(shard.first_line, shard.last_line + 1))


def test_a_holder_that_lost_its_lane_commits_nothing(shard: Shard) -> None:
    """M4: the fence is in the same transaction as the charge."""
    late = HeldLane(_held(shard).id, _held(shard).model_id, _held(shard).token - 1)
    with pytest.raises(LeaseLost):
        checkpoints.flush(late, [_window(shard, _success(1))], [], Report(), now=NOW)
    assert not Checkpoint.objects.exists()
    assert not LedgerEntry.objects.exists()


def test_a_sealed_batch_takes_no_more_results(shard: Shard) -> None:
    Batch.objects.update(sealed_at=NOW)
    window = _window(shard, _success(1))
    refused = checkpoints.flush(_held(shard), [window], [shard.pk], Report(), now=NOW)
    assert refused == {shard.batch_id}
    assert not LedgerEntry.objects.exists()
    assert not default_storage.exists(window.blob)
    shard.refresh_from_db()
    assert shard.state == Shard.State.RUNNING


def test_a_flush_whose_answer_was_lost_can_be_tried_again(shard: Shard) -> None:
    """M4: the second try finds its checkpoint and bills nothing."""
    window = _window(shard, _success(1))
    for _ in range(2):
        checkpoints.flush(_held(shard), [window], [], Report(), now=NOW)
    assert Batch.objects.get(pk=shard.batch_id).completed == 1
    assert LedgerEntry.objects.count() == 1


def test_the_ledger_bills_a_fact_once(shard: Shard) -> None:
    """M4: the database proves it."""
    window = _window(shard, _success(1))
    checkpoints.flush(_held(shard), [window], [], Report(), now=NOW)
    entry = LedgerEntry.objects.get()
    entry.pk = None
    with pytest.raises(IntegrityError):
        entry.save(force_insert=True)


def test_an_amount_keeps_every_digit(shard: Shard) -> None:
    """M5: unrounded, also where a float would round."""
    shard.batch.price = PriceFactory(input_price=Decimal("123456.123456789"))
    window = _window(shard, _success(1, Tokens(99_999_999, 0, 1)))
    checkpoints.flush(_held(shard), [window], [], Report(), now=NOW)
    exact = (99_999_999 * Decimal("123456.123456789") + Decimal("0.60")) / 2 / 1_000_000
    assert LedgerEntry.objects.get().amount == -exact


def _on_credit(shard: Shard, amount: str) -> None:
    ledger.set_prepaid(shard.account_id, True)
    credit = {"key": amount, "reason": "", "made_by": "t", "now": NOW}
    ledger.top_up(shard.account_id, Decimal(amount), **credit)  # type: ignore[arg-type]  # as the names say


@pytest.mark.parametrize(("total", "status"), [(2, "cancelling"), (1, "in_progress")])
def test_a_batch_that_outgrows_its_credit_is_stopped_if_there_is_something_left_to_stop(
    shard: Shard, total: int, status: str
) -> None:
    """M1, M4: billed in full, and never below zero."""
    _on_credit(shard, "0.0001")
    Batch.objects.update(total=total)
    checkpoints.flush(_held(shard), [_window(shard, _success(1))], [], Report(), now=NOW)
    assert Batch.objects.get(pk=shard.batch_id).status == status
    stops = BatchEvent.objects.values_list("kind", flat=True)
    assert list(stops) == [BatchEvent.Kind.CANCELLED_FOR_CREDIT] * (status == "cancelling")
    assert ledger.bill(shard.batch.public_id).charged == Decimal("0.000225")
    assert Balance.objects.get().available == 0
