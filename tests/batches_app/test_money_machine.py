"""The bill under everything that may happen to a batch, in any order, against a model in plain Python."""

from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from django.utils import timezone
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from batches_app import admission, checkpoints, finalization, lanes, lifecycle, reconciliation, results, routing
from batches_app import proof as batch_proof
from batches_app.checkpoints import BatchFacts, LineResult, Window
from batches_app.inspection import inspect
from batches_app.lanes import HeldLane, LeaseLost, Report
from batches_app.models import Batch, ErrorGroup, Lane, ServedModel, Shard
from batches_app.results import Outcome
from batches_app.states import ENDING, TERMINAL, Status
from batches_app.validation import validate
from billing_app import api_keys, ledger, prices, proof, spending
from billing_app.models import Account, Balance, Hold, LedgerEntry
from billing_app.pricing import Rates, Tokens, charge, list_amount, most_charge
from config.api import ids
from files_app import retention
from files_app.proof import prove_storage
from tests.factories import BY_TENANT
from tests.stack import request_line
from tests.tenants import Tenant

LIVE = (Status.IN_PROGRESS, Status.FINALIZING, Status.CANCELLING)
amounts = st.decimals("0.000001", "0.01", places=7)
price = st.decimals(0, 20, places=2)


@dataclass
class ModelBatch:
    """What a batch should have come to."""

    row: Batch
    rates: Rates
    most: Decimal
    used: Tokens = field(default_factory=Tokens)
    successes: int = 0
    hold: Decimal = Decimal(0)


@dataclass
class ModelAccount:
    tenant: Tenant
    prepaid: bool
    available: Decimal = Decimal(0)
    written_off: Decimal = Decimal(0)
    batches: list[ModelBatch] = field(default_factory=list)

    @property
    def held(self) -> Decimal:
        return sum((batch.hold for batch in self.batches), Decimal(0))


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        name = ids.request_id()
        self.accounts = [ModelAccount(Tenant(f"{name} {kind}"), kind == "prepaid") for kind in ("prepaid", "postpaid")]
        ledger.set_prepaid(self.accounts[0].tenant.account.pk, True)
        self.top_up(0, Decimal("0.005"))
        self.rates = Rates(Decimal(3), Decimal(7), Decimal("0.5"))
        route = routing.Route("http://127.0.0.1:9/v1", ["/v1/chat/completions"], 4)
        self.model, _ = routing.serve(f"model {name}", route, self.rates, now=timezone.now())
        self.lane = Lane.objects.get(model=self.model)
        self.held: HeldLane | None = None
        self.shards: dict[int, tuple[Shard, list[int]]] = {}  # by pk: the lines that have no result yet
        self.flushed: list[tuple[HeldLane, Window, list[int]]] = []

    @initialize(lines=st.integers(1, 5), max_tokens=st.integers(0, 300))
    def start(self, lines: int, max_tokens: int) -> None:
        """Each example leaves out some of the rules, but none is to be about nothing."""
        for number in (0, 1):
            self.create(number, lines, max_tokens, at_once=True)
            self.claim()

    def teardown(self) -> None:
        names = {account.tenant.account.name for account in self.accounts}
        found = [*proof.prove_books(), *batch_proof.prove_holds(), *prove_storage()]
        assert [discrepancy for discrepancy in found if discrepancy.account in names] == []
        # The next example shares the database, and is not to claim what this one left.
        ServedModel.objects.filter(pk=self.model.pk).update(is_enabled=False)

    def _batches(self) -> list[ModelBatch]:
        return [batch for account in self.accounts for batch in account.batches]

    def _account_of(self, batch: ModelBatch) -> ModelAccount:
        return next(account for account in self.accounts if batch in account.batches)

    # What tenants and operators do

    @rule(number=st.integers(0, 1), amount=amounts)
    def top_up(self, number: int, amount: Decimal) -> None:
        account, key = self.accounts[number], ids.request_id()
        for _ in range(2):  # the second is the same fact
            ledger.top_up(account.tenant.account.pk, amount, key=key, reason="", made_by="t", now=timezone.now())
        account.available += amount

    @rule(number=st.integers(0, 1), amount=amounts, sign=st.sampled_from([1, -1]))
    def adjust(self, number: int, amount: Decimal, sign: int) -> None:
        account, signed = self.accounts[number], amount * sign
        booked: dict[str, Any] = {"key": ids.request_id(), "reason": "goodwill", "made_by": "t", "now": timezone.now()}
        if account.prepaid and account.available + signed < 0:
            with pytest.raises(ledger.NotCovered):
                ledger.adjust(account.tenant.account.pk, signed, **booked)
            return
        ledger.adjust(account.tenant.account.pk, signed, **booked)
        account.available += signed

    @rule(input=price, output=price, cached=st.none() | price)
    def reprice(self, input: Decimal, output: Decimal, cached: Decimal | None) -> None:
        """A price change in mid-batch changes nothing for the batches that are there."""
        self.rates = Rates(input, output, Decimal("0.5"), cached_input=cached)
        prices.set_price(self.model.name, self.rates, timezone.now())

    @rule(number=st.integers(0, 1), lines=st.integers(1, 5), max_tokens=st.integers(0, 300), at_once=st.booleans())
    def create(self, number: int, lines: int, max_tokens: int, at_once: bool) -> None:
        account = self.accounts[number]
        text = [request_line(str(n), "hi", self.model.name, max_tokens=max_tokens) for n in range(1, lines + 1)]
        file = account.tenant.has_file("\n".join(text).encode())
        new = lifecycle.NewBatch("/v1/chat/completions", file.public_id, "24h", timedelta(hours=24))
        try:
            row = lifecycle.create(account.tenant.account, account.tenant.api_key, new, now=timezone.now())
        except admission.OutOfFunds:
            assert account.prepaid
            assert account.available <= 0
            return
        assert not account.prepaid or account.available > 0
        needed = admission.need(inspect(file, new.endpoint, at=row.created_at))
        account.batches.append(ModelBatch(row, self.rates, most_charge(needed.most, self.rates)))
        if at_once:
            self._validate(account.batches[-1], 1)

    @precondition(lambda self: self._batches())
    @rule(data=st.data())
    def cancel(self, data: Any) -> None:
        batch = data.draw(st.sampled_from(self._batches()))
        try:
            lifecycle.cancel(batch.row, BY_TENANT, now=timezone.now())
        except lifecycle.NotCancellable:
            assert batch.row.status in (TERMINAL - {Status.CANCELLED}) | {Status.FINALIZING}

    @precondition(lambda self: self._batches())
    @rule(data=st.data())
    def delete_the_input(self, data: Any) -> None:
        batch = data.draw(st.sampled_from(self._batches()))
        batch.row.refresh_from_db()
        if batch.row.source is not None:
            retention.delete_file(batch.row.source, now=timezone.now())

    @rule(number=st.integers(0, 1))
    def revoke_the_key(self, number: int) -> None:
        api_keys.revoke(self.accounts[number].tenant.api_key, now=timezone.now())

    # What workers do

    @precondition(lambda self: any(b.row.status == Status.VALIDATING for b in self._batches()))
    @rule(data=st.data(), times=st.integers(1, 2))
    def validate(self, data: Any, times: int) -> None:
        batch = data.draw(st.sampled_from([b for b in self._batches() if b.row.status == Status.VALIDATING]))
        self._validate(batch, times)

    def _validate(self, batch: ModelBatch, times: int) -> None:
        account = self._account_of(batch)
        for _ in range(times):
            validate(batch.row.pk)
        batch.row.refresh_from_db()
        covered = not account.prepaid or account.available >= batch.most
        assert batch.row.status == (Status.IN_PROGRESS if covered else Status.FAILED)
        if not covered:
            assert [error["code"] for error in batch.row.errors] == ["insufficient_quota"]
        elif account.prepaid:
            batch.hold = batch.most
            account.available -= batch.most

    @rule()
    def claim(self) -> None:
        self.held = self.held or lanes.acquire(self.lane.pk, now=timezone.now())
        assert self.held is not None
        shard = lanes.claim(self.held)
        if shard is not None:
            done = checkpoints.done_lines(shard)
            lines = [line for line in range(shard.first_line, shard.last_line + 1) if line not in done]
            self.shards[shard.pk] = (shard, lines)

    @precondition(lambda self: self.shards)
    @rule(data=st.data())
    def finish_lines(self, data: Any) -> None:
        shard, open_lines = data.draw(st.sampled_from(list(self.shards.values())))
        lines = data.draw(st.lists(st.sampled_from(open_lines), unique=True)) if open_lines else []
        answers = [data.draw(ANSWERS) for _ in lines]
        batch = next(b for b in self._batches() if b.row.pk == shard.batch_id)
        done = [shard.pk] if len(lines) == len(open_lines) else []
        window = Window(_facts(batch.row), [_result(*pair) for pair in zip(lines, answers, strict=True)])
        assert self.held is not None
        refused = checkpoints.flush(self.held, [window] if lines else [], done, Report(), now=timezone.now())
        lifecycle.complete_if_done([shard.batch_id], now=timezone.now())
        if done or refused:
            del self.shards[shard.pk]
        else:
            self.shards[shard.pk] = (shard, [line for line in open_lines if line not in lines])
        if lines and not refused:
            self.flushed.append((self.held, window, done))
            self._expect_charge(batch, [tokens for succeeded, tokens in answers if succeeded])

    def _expect_charge(self, batch: ModelBatch, successes: list[Tokens | None]) -> None:
        account, billed = self._account_of(batch), [tokens for tokens in successes if tokens is not None]
        batch.successes += len(billed)
        batch.used = sum(billed, batch.used)
        cost = charge(sum(billed, Tokens()), batch.rates)
        settled = min(cost, batch.hold)
        batch.hold -= settled
        account.available -= cost - settled
        if account.prepaid and account.available < 0:
            account.written_off -= account.available
            account.available = Decimal(0)
            batch.row.refresh_from_db()
            assert batch.row.status != Status.IN_PROGRESS

    @precondition(lambda self: self.flushed)
    @rule(data=st.data())
    def deliver_results_again(self, data: Any) -> None:
        """A flush whose commit was not answered is tried again; of a lane that was lost meanwhile it is refused."""
        held, window, done = data.draw(st.sampled_from(self.flushed))
        try:
            checkpoints.flush(held, [window], done, Report(), now=timezone.now())
        except LeaseLost:
            assert held != self.held

    @precondition(lambda self: self.held)
    @rule()
    def lose_the_lease(self) -> None:
        lost = self.held
        assert lost is not None
        lanes.free_dead(now=timezone.now() + timedelta(hours=1))
        if self.shards:
            shard, lines = next(iter(self.shards.values()))
            batch = next(b for b in self._batches() if b.row.pk == shard.batch_id)
            late = Window(_facts(batch.row), [_result(line, (True, Tokens(9, 0, 9))) for line in lines[:1]])
            with pytest.raises(LeaseLost):
                checkpoints.flush(lost, [late] if lines else [], [], Report(), now=timezone.now())
        self.held, self.shards = None, {}

    @precondition(lambda self: self.held)
    @rule()
    def give_up_what_was_stopped(self) -> None:
        for pk, (shard, _) in list(self.shards.items()):
            if Batch.objects.get(pk=shard.batch_id).status != Status.IN_PROGRESS:
                lanes.free_shards(Shard.objects.filter(pk=pk))
                del self.shards[pk]

    @precondition(lambda self: self._batches())
    @rule(data=st.data(), times=st.integers(1, 2))
    def finalize(self, data: Any, times: int) -> None:
        batch = data.draw(st.sampled_from(self._batches()))
        for _ in range(times):
            finalization.finalize(batch.row.pk)

    @precondition(lambda self: any(b.row.status == Status.IN_PROGRESS for b in self._batches()))
    @rule(data=st.data(), times=st.integers(1, 4))
    def run_on(self, data: Any, times: int) -> None:
        for _ in range(times):
            self.claim()
            if self.shards:
                self.finish_lines(data)

    @precondition(lambda self: any(b.row.status in ENDING for b in self._batches()))
    @rule()
    def finalize_what_ends(self) -> None:
        self.give_up_what_was_stopped()
        for batch in self._batches():
            finalization.finalize(batch.row.pk)

    # What the clock does

    @precondition(lambda self: self._batches())
    @rule(data=st.data())
    def expire(self, data: Any) -> None:
        batch = data.draw(st.sampled_from(self._batches()))
        Batch.objects.filter(pk=batch.row.pk).update(expires_at=timezone.now())
        reconciliation.reconcile(now=timezone.now())

    @rule()
    def reconcile(self) -> None:
        reconciliation.reconcile(now=timezone.now())

    # What holds after every step

    @invariant()
    def nothing_disagrees(self) -> None:
        for batch in self._batches():
            batch.row.refresh_from_db()
            if batch.row.status in TERMINAL:
                self._account_of(batch).available += batch.hold
                batch.hold = Decimal(0)
        for account in self.accounts:
            self._check_account(account)
            for batch in account.batches:
                self._check_batch(account, batch)

    def _check_account(self, account: ModelAccount) -> None:
        """Balance = sum of entries; never below zero if prepaid; open holds are those of live batches."""
        row = Balance.objects.filter(account=account.tenant.account).first() or Balance()
        assert (row.available, row.held) == (account.available, account.held)
        assert not account.prepaid or row.available >= 0
        entries = LedgerEntry.objects.filter(account=account.tenant.account)
        total = sum(entries.values_list("amount", flat=True), Decimal(0))
        assert row.available + row.held == total
        holds = Hold.objects.filter(account=account.tenant.account, released_at=None)
        running = [batch for batch in account.batches if batch.row.status in LIVE and batch.row.in_progress_at]
        live = {batch.row.public_id for batch in running if batch.most and account.prepaid}
        assert set(holds.values_list("batch_id", flat=True)) == live
        spent = sum((charge(batch.used, batch.rates) for batch in account.batches), Decimal(0))
        month = entries.values_list("month", flat=True).first()
        assert month is None or spending.of_month(Account.objects.get(pk=account.tenant.account.pk), month) == spent

    def _check_batch(self, account: ModelAccount, batch: ModelBatch) -> None:
        """One charge for each success and none without one, at the price of the day that the batch was created."""
        bill = ledger.bill(batch.row.public_id)
        assert (bill.requests, bill.tokens) == (batch.successes, batch.used)
        assert bill.charged == charge(batch.used, batch.rates)
        assert bill.charged * 2 == bill.list_amount == list_amount(batch.used, batch.rates)
        assert batch.row.cost == bill.charged
        self._check_errors(batch.row)
        if batch.row.status in TERMINAL:
            assert batch_proof.prove(batch.row).agrees
        if batch.row.status in (Status.VALIDATING, Status.FAILED):
            assert not Hold.objects.filter(batch_id=batch.row.public_id).exists()

    def _check_errors(self, row: Batch) -> None:
        """Every error line is in one group, at every moment; in the end also the requests that were never run."""
        unrun = row.total - row.completed - row.failed if row.status in TERMINAL else 0
        groups = dict(ErrorGroup.objects.filter(batch=row).values_list("code", "count"))
        known = {"http_400": row.failed, f"batch_{row.status}": unrun}
        assert groups == {code: count for code, count in known.items() if count}


# Succeeded or not, and the tokens: None where the upstream told no usage.
ANSWERS = st.one_of(
    st.just((False, None)),
    st.just((True, None)),
    st.builds(
        lambda all_input, cached, output: (True, Tokens(all_input, min(cached, all_input), output)),
        st.integers(0, 200),
        st.integers(0, 200),
        st.integers(0, 300) | st.just(5000),  # more than the request allowed, now and then
    ),
)


def _facts(batch: Batch) -> BatchFacts:
    row = Batch.objects.select_related("price").get(pk=batch.pk)
    assert row.price is not None
    return BatchFacts(row.pk, row.public_id, row.account_id, row.api_key_id, row.price)


def _result(line: int, answer: tuple[bool, Tokens | None]) -> LineResult:
    succeeded, tokens = answer
    usage = tokens and {
        "prompt_tokens": tokens.input,
        "completion_tokens": tokens.output,
        "prompt_tokens_details": {"cached_tokens": tokens.cached},
    }
    body = msgspec.json.encode({"usage": usage})
    text = results.result_line(str(line), Outcome(200 if succeeded else 400, None, body))
    return LineResult(line, text, succeeded, tokens)


@pytest.mark.django_db
def test_the_bill_is_right_whatever_happens() -> None:
    """M1-M5, promise 1."""
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=40,
            stateful_step_count=30,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.explicit, Phase.reuse, Phase.generate],  # to shrink so slow a test takes minutes
        ),
    )
