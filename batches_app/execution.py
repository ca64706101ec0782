"""A lane at work: one plain loop that keeps its permits busy. It claims shards, sends their lines, and flushes
results as checkpoints, across shards and batches, for as long as there is something to do."""

import logging
import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from io import BytesIO
from types import FrameType
from typing import Any

from django.conf import settings
from django.db import InterfaceError, OperationalError
from django.utils import timezone

from batches_app import lanes, lifecycle, results
from batches_app.backlog import Backlog, Item, Load
from batches_app.checkpoints import BatchFacts, LineResult, done_lines
from batches_app.flushing import Flusher
from batches_app.judging import consider
from batches_app.lanes import HeldLane, LeaseLost, Report
from batches_app.models import Batch, Lane, ServedModel, Shard
from batches_app.request_lines import parse_request
from batches_app.states import Status
from batches_app.upstream.client import Answer, CurlClient, Limits, Transport
from batches_app.upstream.pacing import Pacer
from batches_app.upstream.retry import Attempts, Budget, Verdict, backoff, parse_retry_after
from batches_app.upstream.test_model import EchoClient
from files_app import blobs, jsonl

log = logging.getLogger(__name__)

CLAIMS_PER_TICK = 32


def run_lane(lane_id: int) -> None:
    """The job. Returns when there is nothing to do, somebody else has the lane, or the worker is to stop."""
    held = lanes.acquire(lane_id, now=timezone.now())
    if held is None:
        return
    model = ServedModel.objects.get(pk=held.model_id)
    permits = Lane.objects.values_list("permits", flat=True).get(pk=lane_id)
    transport = _transport(model, permits)
    run = LaneRun(held, model, permits, transport)
    try:
        with _drain_on_sigterm(run):
            run.work()
        lanes.release(held)
    except LeaseLost:
        log.warning("Lane %s was taken for dead; what it had in hand is void.", held.id)
    finally:
        transport.close()


def _transport(model: ServedModel, permits: int) -> Transport:
    if model.is_builtin:
        return EchoClient()
    api_key = os.environ.get(model.upstream_key_env) if model.upstream_key_env else None
    if model.upstream_key_env and not api_key:
        log.error("Model %s: the environment variable %s is not set.", model.name, model.upstream_key_env)
    limits = Limits(
        connect_timeout=settings.UPSTREAM_CONNECT_TIMEOUT,
        silence_timeout=settings.UPSTREAM_SILENCE_TIMEOUT,
        total_timeout=settings.UPSTREAM_TOTAL_TIMEOUT,
        max_answer_bytes=settings.MAX_ANSWER_BYTES,
    )
    return CurlClient(url=model.upstream_url, api_key=api_key, slots=settings.LANE_PERMITS, limits=limits)


@contextmanager
def _drain_on_sigterm(run: "LaneRun") -> Iterator[None]:
    def drain(_number: int, _frame: FrameType | None) -> None:
        run.draining = True

    before = signal.signal(signal.SIGTERM, drain)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@dataclass(slots=True)
class RunningBatch:
    facts: BatchFacts
    endpoint: str
    blob: str
    stopped_at: float | None = None  # monotonic, as first seen here


class LaneRun:
    def __init__(self, held: HeldLane, model: ServedModel, permits: int, transport: Transport) -> None:
        self.draining = False
        self._held = held
        self._model = model
        self._transport = transport
        self._pacer = Pacer(permits)
        self._backlog = Backlog()
        self._flusher = Flusher(held)
        self._batches: dict[int, RunningBatch] = {}
        self._budget = Budget(max_attempts=settings.UPSTREAM_MAX_ATTEMPTS, max_seconds=settings.UPSTREAM_RETRY_BUDGET)
        self._parent = os.getppid()
        self._turn_ends = time.monotonic() + settings.LANE_TURN
        self._next_tick = 0.0
        self._nothing_to_claim = False

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
        if self.draining:
            return False
        if not self._backlog.size:
            self._nothing_to_claim = False
            self._claim_more()
        return bool(self._backlog.size or self._transport.in_flight)

    def _patience(self, now: float) -> float:
        """Seconds to wait for an answer at most."""
        moments = [self._next_tick, self._backlog.next_at(), self._pacer.next_at(now)]
        return max(0.0, min(moment for moment in moments if moment is not None) - now)

    # Sending

    def _fill(self, now: float) -> None:
        allowance = 0 if self.draining else self._pacer.allowance(now, self._transport.in_flight)
        for _ in range(allowance):
            if not self._backlog.unsent:
                self._claim_more()
            item = self._backlog.next(now)
            if item is None:
                return
            self._send(item)

    def _send(self, item: Item) -> None:
        request = parse_request(item.line, upstream_model=self._model.upstream_model or None)
        item.custom_id = request.custom_id
        endpoint = self._batches[item.load.batch_id].endpoint
        self._transport.send(item, endpoint, request.body, request.stream)
        self._pacer.sent()

    def _claim_more(self) -> None:
        # Before the last shard has drained, so that the permits are never idle while work exists.
        if not self._nothing_to_claim and self._backlog.bytes < settings.LANE_BUFFER_BYTES:
            with self._draining_without_database():
                self._nothing_to_claim = not self._take(lanes.claim(self._held))

    def _claim_for_others(self) -> None:
        """A shard for each account that this lane has no line of: a small batch need not wait for a large one."""
        for _ in range(CLAIMS_PER_TICK):
            if self._backlog.bytes >= settings.LANE_BUFFER_BYTES:
                return
            if not self._take(lanes.claim(self._held, besides=self._backlog.accounts())):
                return

    def _take(self, shard: Shard | None) -> bool:
        if shard is None:
            return False
        batch = self._running_batch(shard)
        try:
            data = blobs.read_range(batch.blob, shard.offset, shard.size)
        except OSError as error:
            log.error("Lane %s cannot read %s: %s", self._held.id, batch.facts.public_id, error)
            lanes.free_shards(Shard.objects.filter(pk=shard.pk))
            return False
        done = done_lines(shard) if shard.claims > 1 else set()
        load = Load(shard.pk, shard.batch_id, shard.account_id, shard.account.weight)
        lines = jsonl.read_lines(BytesIO(data), max_bytes=settings.MAX_LINE_BYTES, first_number=shard.first_line)
        items = [Item(load, line, Attempts(self._budget)) for line in lines if line.number not in done]
        load.open = len(items)
        self._backlog.add(load, items)
        if not items:
            self._flusher.shard_done(load)
        return True

    def _running_batch(self, shard: Shard) -> RunningBatch:
        known = self._batches.get(shard.batch_id)
        if known is None:
            batch = Batch.objects.select_related("source", "price").get(pk=shard.batch_id)
            known = self._batches[batch.pk] = _running(batch)
        return known

    # Answers

    def _settle(self, answer: Answer) -> None:
        item: Item = answer.tag
        batch = self._batches[item.load.batch_id]
        now = time.monotonic()
        verdict, outcome, tokens = consider(answer, batch.endpoint)
        retry_after = parse_retry_after(answer.retry_after, timezone.now()) if answer.retry_after else None
        self._pacer.heed(verdict, answer, now, retry_after)
        again = verdict is not Verdict.SUCCESS and item.attempts.after(verdict, answer, self._pacer.fresh)
        if not again:
            text = results.result_line(item.custom_id, outcome)
            self._backlog.finish(item)
            result = LineResult(item.line.number, text, outcome.succeeded, tokens)
            self._flusher.add(batch.facts, item.load, result)
        elif batch.stopped_at:
            self._backlog.give_up(item)
        elif verdict is Verdict.RETRY:
            self._backlog.put_back(item, now + backoff(item.attempts.burnt, random.random))
        else:
            self._backlog.put_back(item)

    # Once a second, and whenever enough results have come together

    def _tick(self, now: float) -> None:
        self._next_tick = now + settings.FLUSH_INTERVAL
        refused = self._flusher.flush(self._report(now))
        self._give_up(refused)
        self._nothing_to_claim = False
        with self._draining_without_database():
            self._heed_stops(now)
            self._heed_operator(now)
            if not self.draining and self._pacer.paused_since is None:
                self._claim_for_others()

    @contextmanager
    def _draining_without_database(self) -> Iterator[None]:
        """A claim whose commit was not answered may hold a shard that this lane knows nothing of. To finish what is
        in flight and to give everything back is a clean start, and flushing waits for the database."""
        try:
            yield
        except (OperationalError, InterfaceError) as error:
            log.warning("Lane %s ends, for the database is away: %s", self._held.id, error)
            self.draining = True

    def _report(self, now: float) -> Report:
        since = self._pacer.paused_since
        return Report(
            limit=self._pacer.limit,
            in_flight=self._transport.in_flight,
            paused_since=None if since is None else timezone.now() - timedelta(seconds=now - since),
            pause_reason=self._pacer.reason or "",
        )

    def _heed_stops(self, now: float) -> None:
        """Cancelled and expired batches: nothing more is sent, and what is in flight has a short grace."""
        rows = Batch.objects.filter(pk__in=self._batches).exclude(status=Status.IN_PROGRESS)
        stopped = set(rows.values_list("pk", flat=True)) if self._batches else set()
        if not stopped:
            return
        self._backlog.drop_unsent(stopped)
        for pk in stopped:
            self._batches[pk].stopped_at = self._batches[pk].stopped_at or now
        self._give_up({pk for pk in stopped if now > (self._batches[pk].stopped_at or now) + settings.CANCEL_GRACE})
        for pk in stopped:
            if not self._backlog.is_in_flight(pk):
                self._leave(pk)

    def _give_up(self, batch_ids: "set[int] | frozenset[int]") -> None:
        if batch_ids:
            self._backlog.drop_unsent(set(batch_ids))
            for item in self._transport.abort(lambda item: item.load.batch_id in batch_ids):
                self._backlog.give_up(item)

    def _leave(self, batch_id: int) -> None:
        """A stopped batch of which this lane has nothing in flight any more."""
        if self._flusher.holds(batch_id):
            return  # its last results go out with the next flush
        del self._batches[batch_id]
        lanes.free_shards(lanes.shards_of(self._held).filter(batch=batch_id))
        batch = Batch.objects.get(pk=batch_id)
        lifecycle.ring_if_ending(batch)

    def _heed_operator(self, now: float) -> None:
        lane = Lane.objects.select_related("model").get(pk=self._held.id)
        if lane.permits and lane.permits != self._pacer.permits:
            self._pacer.resize(lane.permits)
        changed = _upstream_of(lane.model) != _upstream_of(self._model)
        orphaned = os.getppid() != self._parent
        self.draining = self.draining or changed or orphaned or not lane.permits
        if now >= self._turn_ends:
            self._turn_ends = now + settings.LANE_TURN
            self.draining = self.draining or lanes.others_wait(self._model.pk)


def _running(batch: Batch) -> RunningBatch:
    if batch.source is None or batch.price is None:
        raise RuntimeError(f"{batch} runs without its input file or its price.")
    facts = BatchFacts(batch.pk, batch.public_id, batch.account_id, batch.api_key_id, batch.price)
    return RunningBatch(facts, batch.endpoint, batch.source.blob)


def _upstream_of(model: ServedModel) -> tuple[Any, ...]:
    return (model.upstream_url, model.upstream_model, model.upstream_key_env)
