"""What Prometheus is told. It is read from the database and from Redis when it asks, so that every web process says the
same of all of them, and nothing starts again at 0 when one does.

Labels are models, states and kinds, which operators and this code name; never what tenants name.
"""

import platform
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from functools import lru_cache
from importlib.metadata import version
from itertools import accumulate

from django.conf import settings
from django.db import Error, connection
from django.db.models import Count, F, Sum
from django.utils import timezone
from prometheus_client import Metric
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.registry import Collector

from batches_app import attention, health, queue, traffic, workforce
from batches_app.health import Health
from batches_app.models import Batch, Lane, ReconcileRun
from batches_app.queue import Snapshot
from batches_app.states import TERMINAL, Status
from batches_app.traffic import BOUNDS_MS, Minute
from batches_app.watching import readiness
from billing_app import daily, rate_limits, running_counts
from billing_app.pricing import NOTHING, Bill
from billing_app.running_counts import ENDED, HEALED, STEP_FAILED

Samples = Iterable[tuple[Sequence[str], float]]  # the values of the labels, and the sample's

_FIRST_DAY = date(1970, 1, 1)


def gauge(name: str, about: str, labels: Sequence[str], samples: Samples) -> Metric:
    family = GaugeMetricFamily(f"batchdesk_{name}", about, labels=labels)
    for values, sample in samples:
        family.add_metric(values, sample)
    return family


def counter(name: str, about: str, labels: Sequence[str], samples: Samples) -> Metric:
    family = CounterMetricFamily(f"batchdesk_{name}", about, labels=labels)
    for values, sample in samples:
        family.add_metric(values, sample)
    return family


class Desk(Collector):
    """About thirteen queries. While the database is away there is only what can be said without it."""

    def collect(self) -> Iterator[Metric]:
        now, workers = timezone.now(), queue.snapshot()
        yield from _of_this_build()
        yield from _of_redis(workers, now)
        found = _of_database_if_there(workers, now)
        yield gauge("database_up", "1 while the database answers.", (), [((), bool(found))])
        yield from found


def _of_this_build() -> Iterator[Metric]:
    facts = {"version": version("batchdesk"), "python": platform.python_version(), "database": connection.vendor}
    yield InfoMetricFamily("batchdesk_build", "What runs here.", value=facts)


def _of_redis(workers: Snapshot, now: datetime) -> Iterator[Metric]:
    yield gauge("redis_up", "1 while Redis answers.", (), [((), workers.reachable)])
    if not workers.reachable:
        return
    depths = [((name,), depth) for name, depth in workers.depths.items()]
    yield gauge("queue_depth", "Jobs that no worker has taken yet.", ("queue",), depths)
    states = Counter((name, _state_of(worker, now)) for worker in workers.workers for name in worker.queues)
    yield gauge(
        "workers",
        "Workers by what they do; a stale one has not been heard of for over a minute.",
        ("queue", "state"),
        [((name, state), states[name, state]) for name in settings.RQ_QUEUES for state in ("busy", "idle", "stale")],
    )


def _state_of(worker: queue.WorkerState, now: datetime) -> str:
    if workforce.is_stale(worker, now):
        return "stale"
    return "busy" if worker.state == "busy" else "idle"


def _of_database_if_there(workers: Snapshot, now: datetime) -> list[Metric]:
    # Asked with a time limit first: for a server that is away, the pool waits longer than Prometheus does.
    if readiness.watch.readiness().checks["database"] != readiness.OK:
        return []
    try:
        return list(_of_database(workers, now))
    except Error:
        return []


def _of_database(workers: Snapshot, now: datetime) -> Iterator[Metric]:
    models = health.of_models(now)
    yield from _of_attention(attention.review(models, workers, now, money=False))
    yield from _of_batches(models, now)
    yield from _of_lanes(models, now)
    yield from _of_traffic(models, now)
    yield from _of_money(now)
    yield from _of_reconciler()
    yield from _of_running_counts(running_counts.all_named())


def _of_attention(review: attention.Review) -> Iterator[Metric]:
    counts = {item.kind: item.count for item in review.items}
    kinds = [kind for kind in attention.Kind if kind not in _OF_MONEY]
    yield gauge(
        "attention",
        "What the console's overview asks to look at: how many of each kind.",
        ("kind",),
        [((kind,), counts.get(kind, 0)) for kind in kinds],
    )


_OF_MONEY = frozenset({attention.Kind.OUT_OF_CREDIT, attention.Kind.BUDGET_USED_UP})  # it is not asked for these


def _of_batches(models: Sequence[Health], now: datetime) -> Iterator[Metric]:
    # As a sum: SQLite would go through all batches in the order of their models.
    alive = Batch.objects.filter(status__in=attention.ALIVE).order_by().annotate(key=F("model_id") + 0)
    left = Sum(F("total") - F("completed") - F("failed"))
    batches: Counter[str] = Counter()
    lines: Counter[int | None] = Counter()
    for status, model, count, unfinished in alive.values_list("status", "key").annotate(number=Count("pk"), lines=left):
        batches[status] += count
        lines[model] += unfinished
    counts = [((status,), batches[status]) for status in Status if status not in TERMINAL]
    yield gauge("batches", "Batches that have not ended.", ("status",), counts)
    unfinished = [((one.model.name,), lines[one.model.pk]) for one in models]
    yield gauge("lines_left", "Lines of these that have no result yet.", ("model",), unfinished)
    oldest = workforce.oldest_waiting()
    age = max(0.0, (now - oldest.created_at).total_seconds()) if oldest else 0.0
    yield gauge("oldest_waiting_batch_age_seconds", "Of those that nobody works on; 0: there is none.", (), [((), age)])


def _of_lanes(models: Sequence[Health], now: datetime) -> Iterator[Metric]:
    lanes = {one.model.name: [lane for lane in one.model.lanes.all() if lane.permits] for one in models}
    held = {name: [lane for lane in every if health.is_held(lane, now)] for name, every in lanes.items()}
    yield _by_model("lanes", "Lanes that have permits.", {name: len(every) for name, every in lanes.items()})
    yield _by_model("lanes_held", "Lanes of which a worker has the lease.", {name: len(h) for name, h in held.items()})
    paused = {name: sum(lane.paused_since is not None for lane in every) for name, every in held.items()}
    yield _by_model("lanes_waiting_for_upstream", "Of these: the upstream is down, and is probed.", paused)
    yield _by_model("permits", "Requests that may be in flight at most.", {n: _permits(e) for n, e in lanes.items()})
    limits = {one.model.name: one.limit for one in models}
    yield _by_model("permits_usable", "Of these, as many as its throttling leaves.", limits)
    yield _by_model("requests_in_flight", "As lanes last said.", {one.model.name: one.in_flight for one in models})
    states = [((one.model.name, state), one.state is state) for one in models for state in health.State]
    yield gauge("model_state", "1 for the state that a model's upstream is in.", ("model", "state"), states)


def _permits(lanes: Iterable[Lane]) -> int:
    return sum(lane.permits for lane in lanes)


def _by_model(name: str, about: str, samples: Mapping[str, float]) -> Metric:
    return gauge(name, about, ("model",), [((model,), sample) for model, sample in samples.items()])


def _of_traffic(models: Sequence[Health], now: datetime) -> Iterator[Metric]:
    every = traffic.of_all_time(now)
    of = {one.model.name: every.get(one.model.pk) or Minute(now) for one in models}
    lines = [
        ((name, result), number)
        for name, sums in of.items()
        for result, number in (("completed", sums.completed), ("failed", sums.failed))
    ]
    yield counter("lines", "Lines that have their result.", ("model", "result"), lines)
    answers = [((name, kind), number) for name, sums in of.items() for kind, number in _by_kind(sums).items()]
    yield counter("upstream_answers", "What came of requests, repeated ones included.", ("model", "kind"), answers)
    yield _latency(of)
    checkpoints = [((name,), sums.checkpoints) for name, sums in of.items()]
    yield counter("checkpoints", "Commits of results, with their charge.", ("model",), checkpoints)


def _by_kind(sums: Minute) -> dict[str, int]:
    """`fault`: no answer, or a 500 and its like; `refused`: the line's own failure, such as a 400."""
    ok = sum(sums.latency)
    refused = sums.answers - ok - sums.throttled - sums.faults
    return {"ok": ok, "throttled": sums.throttled, "fault": sums.faults, "refused": refused}


def _latency(of: Mapping[str, Minute]) -> Metric:
    about = "Of successful answers, whole."
    family = HistogramMetricFamily("batchdesk_upstream_latency_seconds", about, labels=("model",))
    bounds = [*(str(bound / 1000) for bound in BOUNDS_MS), "+Inf"]
    for name, sums in of.items():
        buckets = list(zip(bounds, map(float, accumulate(sums.latency)), strict=True))
        family.add_metric((name,), buckets, sums.waited_ms / 1000)
    return family


def _of_money(now: datetime) -> Iterator[Metric]:
    bills = _billed(daily.day_of(now))
    tokens = [((model, kind), number) for model, bill in bills.items() for kind, number in _by_share(bill).items()]
    about = "Billed tokens; cached ones are a part of input, reasoning ones of output."
    yield counter("tokens", about, ("model", "kind"), tokens)
    charged = [((model, settings.CURRENCY), float(bill.charged)) for model, bill in bills.items()]
    yield counter("charges", "What tenants were charged for them.", ("model", "currency"), charged)


def _by_share(bill: Bill) -> dict[str, int]:
    tokens = bill.tokens
    return {
        "input": tokens.input,
        "cached": tokens.cached,
        "output": tokens.output,
        "reasoning": tokens.reasoning,
    }


def _billed(today: date) -> dict[str, Bill]:
    """Since ever, by model. Nothing is booked two days back any more: all processes find the same there, each once a
    day."""
    yesterday = today - timedelta(days=1)
    before, late = _billed_before(yesterday), daily.usage(yesterday, today, "model_name")
    names = sorted({*before, *(name for (name,) in late)})
    return {name: before.get(name, NOTHING) + late.get((name,), NOTHING) for name in names}


@lru_cache(maxsize=1)
def _billed_before(day: date) -> Mapping[str, Bill]:
    bills = daily.usage(_FIRST_DAY, day - timedelta(days=1), "model_name")
    return {name: bill for (name,), bill in bills.items()}


def _of_reconciler() -> Iterator[Metric]:
    last = ReconcileRun.objects.first()
    ran = [((), last.started_at.timestamp())] if last else []
    yield gauge("reconciler_last_run_timestamp_seconds", "When it last began a run that it ended.", (), ran)
    took = [((), last.seconds)] if last else []
    yield gauge("reconciler_last_run_duration_seconds", "How long that run took.", (), took)


def _of_running_counts(counts: Mapping[str, int]) -> Iterator[Metric]:
    ended = [((status,), counts.get(ENDED + status, 0)) for status in Status if status in TERMINAL]
    yield counter("batches_ended", "Batches by how they ended.", ("status",), ended)
    healed = _with_prefix(counts, HEALED)
    yield counter("reconciler_healed", "What the reconciler set right, by its step.", ("step",), healed)
    failed = _with_prefix(counts, STEP_FAILED)
    yield counter("reconciler_step_failures", "Steps of the reconciler that failed.", ("step",), failed)
    fallbacks = [((), counts.get(rate_limits.FALLBACKS, 0))]
    about = "Requests whose rate limit was decided without Redis; told every few seconds."
    yield counter("rate_limit_fallbacks", about, (), fallbacks)


def _with_prefix(counts: Mapping[str, int], prefix: str) -> Samples:
    return [((name.removeprefix(prefix),), count) for name, count in counts.items() if name.startswith(prefix)]
