"""What became of the batches that came in: shards, checkpoints, results and charges as a lane would leave them."""

import json
from datetime import datetime, timedelta
from random import Random

from batches_app import checkpoints, execution, finalization, history, lanes, lifecycle, results, validation
from batches_app.checkpoints import BatchFacts, LineResult, Window
from batches_app.lanes import HeldLane, Report
from batches_app.models import Batch, Lane, Shard
from batches_app.results import Outcome
from batches_app.seeding import vocabulary
from batches_app.seeding.arrivals import Arrival, Fate
from batches_app.seeding.cast import EMBEDDINGS
from batches_app.states import Status
from files_app.models import StoredFile

START = timedelta(seconds=4)  # from creation to the first line


class Present:
    """Brings batches that were just created to where they are to be."""

    def __init__(self, rng: Random, *, now: datetime) -> None:
        self._rng, self._now = rng, now
        self._held: dict[int, HeldLane] = {}

    def bring(self, arrival: Arrival, batch: Batch) -> None:
        if arrival.fate is Fate.VALIDATING:
            return
        validation.validate(batch.pk)
        running = Batch.objects.filter(pk=batch.pk, status=Status.IN_PROGRESS)
        if not running.update(in_progress_at=min(self._now, arrival.created + START)):
            return  # for want of credit, or because somebody else works on it
        batch.refresh_from_db()
        if arrival.fate is Fate.DONE:
            _run(batch)
            return
        self._advance(arrival, batch)
        if arrival.fate is Fate.CANCELLING:
            lifecycle.cancel(batch, history.by_tenant(batch.api_key), now=self._now - timedelta(seconds=3))

    def _advance(self, arrival: Arrival, batch: Batch) -> None:
        left, shards = int(arrival.done * batch.total), list(batch.shards.order_by("first_line"))
        if not left:
            return
        held = self._hold(batch)
        began = arrival.created + START
        lanes.note(history.CLAIMED, held, [batch.pk], now=began)
        for number, shard in enumerate(shards):
            count = min(left, shard.requests)
            if not count:
                return
            left -= count
            share = number / len(shards)
            # The last two within the last minutes: they make the rate.
            recent = left <= shard.requests
            at = self._now - timedelta(seconds=self._rng.uniform(5, 100)) if recent else None
            self._flush(batch, shard, count, held, at or began + (self._now - began) * share)
        lifecycle.complete_if_done([batch.pk], now=self._now)

    def _hold(self, batch: Batch) -> HeldLane:
        assert batch.model_id is not None
        if batch.model_id not in self._held:
            lane = Lane.objects.filter(model=batch.model_id).earliest("number")
            held = lanes.acquire(lane.pk, now=self._now)
            assert held is not None  # of a model that was just made, and that nobody knows yet
            self._held[batch.model_id] = held
        return self._held[batch.model_id]

    def _flush(self, batch: Batch, shard: Shard, count: int, held: HeldLane, at: datetime) -> None:
        assert batch.price is not None
        shard.state, shard.lane_id, shard.lane_token, shard.claims = Shard.State.RUNNING, held.id, held.token, 1
        shard.save(update_fields=["state", "lane", "lane_token", "claims"])
        facts = BatchFacts(batch.pk, batch.public_id, batch.account_id, batch.api_key_id, batch.price)
        lines = range(shard.first_line, shard.first_line + count)
        window = Window(facts, [_result(line, batch, self._rng) for line in lines])
        checkpoints.flush(held, [window], [shard.pk] if count == shard.requests else [], Report(), now=at)


def finish(batch: Batch) -> None:
    """From its creation to its end."""
    validation.validate(batch.pk)
    batch.refresh_from_db()
    _run(batch)


def _run(batch: Batch) -> None:
    for lane in Lane.objects.filter(model=batch.model_id):
        execution.run_lane(lane.pk)
    finalization.finalize(batch.pk)
    _backdate(batch)


def _backdate(batch: Batch) -> None:
    """It was done now, but looks as if soon after its creation."""
    done = batch.created_at + START + timedelta(seconds=2)
    stamps = {"finalizing_at": done, "sealed_at": done, "completed_at": done + timedelta(seconds=1)}
    Batch.objects.filter(pk=batch.pk).update(in_progress_at=batch.created_at + START, **stamps)
    batch.refresh_from_db()
    results_of = StoredFile.objects.filter(public_id__in=[batch.output_file_id, batch.error_file_id])
    results_of.update(created_at=batch.completed_at)
    batch.events.filter(kind=history.CLAIMED).update(at=batch.created_at + START)
    batch.events.exclude(kind=history.CLAIMED).update(at=done)


def _result(line: int, batch: Batch, rng: Random) -> LineResult:
    custom_id = f"row-{line}"
    if rng.random() < 0.02:
        return LineResult(line, results.result_line(custom_id, _failure(rng)), False, None)
    body = _answer(batch, rng)
    return LineResult(line, results.result_line(custom_id, Outcome(200, None, body)), True, results.read_usage(body))


def _failure(rng: Random) -> Outcome:
    trouble = rng.choice(vocabulary.TROUBLES)
    status, _, code = trouble.code.removeprefix("http_").partition(" ")
    if not status.isdigit():
        return Outcome(None, None, b"", trouble.code, trouble.message)
    error = {"message": trouble.message, "type": "invalid_request_error", "param": None, "code": code or None}
    return Outcome(int(status), None, json.dumps({"error": error}, ensure_ascii=False).encode())


def _answer(batch: Batch, rng: Random) -> bytes:
    read, written = rng.randint(40, 900), rng.randint(20, 500)
    answer: dict[str, object]
    if batch.endpoint == EMBEDDINGS:
        usage = {"prompt_tokens": read, "total_tokens": read}
        answer = {"object": "list", "model": batch.model_name, "data": [], "usage": usage}
    else:
        message = {"role": "assistant", "content": rng.choice(vocabulary.ANSWERS)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
        answer = {"object": "chat.completion", "model": batch.model_name, "choices": [choice], "usage": usage}
    return json.dumps(answer, ensure_ascii=False).encode()
