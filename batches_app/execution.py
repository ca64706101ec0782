"""A lane at work: one plain loop that keeps its permits busy. It claims shards, sends their lines, and flushes
results as checkpoints, across shards and batches, for as long as there is something to do."""

import logging
import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from types import FrameType
from typing import Any

from django.conf import settings

from batches_app import clock, connecting, lanes, poison, results
from batches_app.backlog import Backlog, Item
from batches_app.checkpoints import LineResult
from batches_app.flushing import Abandoned, Flusher
from batches_app.intake import Intake
from batches_app.judging import consider
from batches_app.lanes import HeldLane, LeaseLost, Report
from batches_app.models import Lane, ServedModel
from batches_app.request_lines import parse_request
from batches_app.request_parsing import read_custom_id
from batches_app.results import ErrorCode, Outcome
from batches_app.running import RunningBatches
from batches_app.traffic import Tally
from batches_app.upstream.client import Answer, Transport
from batches_app.upstream.pacing import Pacer
from batches_app.upstream.retry import Verdict, backoff, parse_retry_after
from billing_app.pricing import Tokens
from config.outages import DATABASE_AWAY

log = logging.getLogger(__name__)


def run_lane(lane_id: int) -> None:
    """The job. Returns when there is nothing to do, somebody else has the lane, or the worker is to stop."""
    held = lanes.acquire(lane_id, now=clock.now())
    if held is None:
        return
    model = ServedModel.objects.get(pk=held.model_id)
    permits = Lane.objects.values_list("permits", flat=True).get(pk=lane_id)
    transport = connecting.transport(model)
    run = LaneRun(held, model, permits, transport)
    try:
        with _drain_on_sigterm(run), suppress(Abandoned):
            run.work()
        lanes.release(held, run.batch_ids, now=clock.now())
    except LeaseLost:
        log.warning("Lane %s was taken for dead; what it had in hand is void.", held.id)
    finally:
        transport.close()


@contextmanager
def _drain_on_sigterm(run: "LaneRun") -> Iterator[None]:
    def drain(_number: int, _frame: FrameType | None) -> None:
        run.draining = True

    before = signal.signal(signal.SIGTERM, drain)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class LaneRun:
    def __init__(self, held: HeldLane, model: ServedModel, permits: int, transport: Transport) -> None:
        self.draining = False
        self._is_paused = False  # by an operator, who may resume before this lane has come to its end
        self._held = held
        self._model = model
        self._transport = transport
        self._pacer = Pacer(permits)
        self._backlog = Backlog()
        self._flusher = Flusher(held, lambda: self.draining or self._is_orphaned)
        self._tally = Tally(clock.now())
        self._batches = RunningBatches(held)
        self._intake = Intake(held, self._backlog, self._flusher, self._batches)
        self._parent = os.getppid()
        self._turn_ends = time.monotonic() + settings.LANE_TURN
        self._next_tick = 0.0
        self._nothing_to_claim = False

    @property
    def batch_ids(self) -> list[int]:
        """The batches that it has in hand."""
        return self._batches.ids

    @property
    def _is_orphaned(self) -> bool:
        return os.getppid() != self._parent

    @property
    def _sends_nothing(self) -> bool:
        return self.draining or self._is_paused

    def work(self) -> None:
        """Raises LeaseLost."""
        while True:
            now = time.monotonic()
            if now >= self._next_tick or self._flusher.is_full:
                self._tick(now)
            self._fill(now)
            if not self._transport.in_flight and not self._goes_on():
                return
            for answer in self._transport.poll(self._patience(time.monotonic())):
                self._settle(answer)

    def _goes_on(self) -> bool:
        """With nothing in flight: results go out at once, and if nothing is left to claim either, that is the end."""
        if self._flusher.has_results:
            self._tick(time.monotonic())
        if self._sends_nothing:
            return False
        if not self._backlog.size:
            self._nothing_to_claim = False
            self._claim_more()
        return bool(self._backlog.size or self._transport.in_flight or self._intake.waits)

    def _patience(self, now: float) -> float:
        """Seconds to wait for an answer at most."""
        moments = [self._next_tick, self._backlog.next_at(), self._pacer.next_at(now)]
        return max(0.0, min(moment for moment in moments if moment is not None) - now)

    # Sending

    def _fill(self, now: float) -> None:
        if self._intake.suspicion.is_single and self._flusher.has_results and not self._transport.in_flight:
            self._tick(now)  # the results so far are not to go down with the next line
        for _ in range(self._allowance(now)):
            if not self._backlog.unsent:
                self._claim_more()
            item = self._backlog.next(now)
            if item is None:
                return
            if not self._intake.suspicion.is_single or self._is_noted(item):
                self._send(item)

    def _allowance(self, now: float) -> int:
        if self._sends_nothing:
            return 0
        in_flight = self._transport.in_flight
        return self._intake.suspicion.allowance(self._pacer.allowance(now, in_flight), in_flight)

    def _is_noted(self, item: Item) -> bool:
        """Before it is sent. False: it has taken down too many, or the database is away."""
        if poison.is_given_up(item.load.crashes, item.line.number):
            item.custom_id = read_custom_id(item.line.raw)
            self._finish(item, Outcome(None, None, b"", ErrorCode.WORKER_CRASH, poison.MESSAGE), None)
            return False
        with self._draining_without_database():
            poison.about_to_send(lanes.shards_of(self._held).filter(pk=item.load.shard_id), item.line.number)
        if self.draining:
            self._backlog.put_back(item)
        return not self.draining

    def _send(self, item: Item) -> None:
        request = parse_request(item.line, upstream_model=self._model.upstream_model or None)
        item.custom_id = request.custom_id
        endpoint = self._batches[item.load.batch_id].endpoint
        self._transport.send(item, endpoint, request.body, request.stream)
        self._pacer.sent()

    def _claim_more(self) -> None:
        # Before the last shard has drained, so that the permits are never idle while work exists.
        if self._nothing_to_claim or self._intake.has_enough:
            return
        with self._draining_without_database():
            self._nothing_to_claim = not self._intake.one()

    # Answers

    def _settle(self, answer: Answer) -> None:
        item: Item = answer.tag
        batch = self._batches[item.load.batch_id]
        now = time.monotonic()
        verdict, outcome, tokens = consider(answer, batch.endpoint)
        retry_after = parse_retry_after(answer.retry_after, clock.now()) if answer.retry_after else None
        self._pacer.heed(verdict, answer, now, retry_after)
        self._tally.minute.answered(answer.status, answer.seconds, throttled=verdict is Verdict.PUSHBACK)
        again = verdict is not Verdict.SUCCESS and item.attempts.after(verdict, answer, self._pacer.fresh)
        if not again:
            self._finish(item, outcome, tokens)
        elif batch.stopped_at:
            self._backlog.give_up(item)
        elif verdict is Verdict.RETRY:
            self._backlog.put_back(item, now + backoff(item.attempts.burnt, random.random))
        else:
            self._backlog.put_back(item)

    def _finish(self, item: Item, outcome: Outcome, tokens: Tokens | None) -> None:
        text = results.result_line(item.custom_id, outcome)
        self._backlog.finish(item)
        self._tally.minute.finished(outcome.succeeded, tokens)
        result = LineResult(item.line.number, text, outcome.succeeded, tokens)
        self._flusher.add(self._batches[item.load.batch_id].facts, item.load, result)

    # Once a second, and whenever enough results have come together

    def _tick(self, now: float) -> None:
        self._next_tick = now + settings.FLUSH_INTERVAL
        self._tally.minute.checkpoints += self._flusher.checkpoints
        refused = self._flusher.flush(self._report(now))
        self._tally.written(clock.now())
        self._give_up(refused)
        self._nothing_to_claim = False
        with self._draining_without_database():
            self._heed_stops(now)
            self._heed_operator(now)
            if not self._sends_nothing and self._pacer.paused_since is None:
                self._intake.for_others()

    @contextmanager
    def _draining_without_database(self) -> Iterator[None]:
        """A claim whose commit was not answered may hold a shard that this lane knows nothing of. To finish what is
        in flight and to give everything back is a clean start, and flushing waits for the database."""
        try:
            yield
        except DATABASE_AWAY as error:
            log.warning("Lane %s ends, for the database is away: %s", self._held.id, error)
            self.draining = True

    def _report(self, now: float) -> Report:
        since = self._pacer.paused_since
        return Report(
            limit=self._pacer.limit,
            in_flight=self._transport.in_flight,
            paused_since=None if since is None else clock.now() - timedelta(seconds=now - since),
            pause_reason=self._pacer.reason or "",
            minute=self._tally.unwritten(),
        )

    def _heed_stops(self, now: float) -> None:
        """Cancelled and expired batches: nothing more is sent, and what is in flight has a short grace."""
        stopped = self._batches.stopped(now)
        if not stopped:
            return
        self._backlog.drop_unsent(stopped)
        self._give_up(self._batches.past_grace(stopped, now))
        # What the flusher holds goes out with the next flush.
        self._batches.leave(
            [pk for pk in stopped if not self._backlog.is_in_flight(pk) and not self._flusher.holds(pk)]
        )

    def _give_up(self, batch_ids: "set[int] | frozenset[int]") -> None:
        if batch_ids:
            self._backlog.drop_unsent(set(batch_ids))
            for item in self._transport.abort(lambda item: item.load.batch_id in batch_ids):
                self._backlog.give_up(item)

    def _heed_operator(self, now: float) -> None:
        lane = Lane.objects.select_related("model").get(pk=self._held.id)
        if lane.permits and lane.permits != self._pacer.permits:
            self._pacer.resize(lane.permits)
        if lane.model.probe_asked_at != self._model.probe_asked_at:
            self._model.probe_asked_at = lane.model.probe_asked_at
            self._pacer.probe_now(now)
        self._is_paused = lane.model.paused_at is not None
        changed = _upstream_of(lane.model) != _upstream_of(self._model)
        self.draining = self.draining or changed or self._is_orphaned or not lane.permits
        if now >= self._turn_ends:
            self._turn_ends = now + settings.LANE_TURN
            waited_for = poison.suspects_wait(self._model.pk) or lanes.others_wait(self._model.pk)
            self.draining = self.draining or waited_for


def _upstream_of(model: ServedModel) -> tuple[Any, ...]:
    return (model.upstream_url, model.upstream_model, model.upstream_key_env)
