"""A day of every lane's minutes, and of the reconciler's runs."""

from bisect import bisect_left
from collections.abc import Iterator
from datetime import datetime, timedelta
from math import pi, sin
from random import Random

from django.db.models import Sum

from batches_app.models import Batch, Lane, LaneMinute, ReconcileRun
from batches_app.seeding.cast import DOWN, PAUSED, THROTTLED, Cast, Served
from batches_app.seeding.loading import Row, Table
from batches_app.traffic import BOUNDS_MS

MINUTES = 24 * 60
MINUTE = timedelta(minutes=1)
SILENT_FOR = {PAUSED: timedelta(hours=5), DOWN: timedelta(minutes=97)}
COLUMNS = (
    "model_id", "lane_id", "lane_token", "minute", "completed", "failed", "input_tokens", "output_tokens", "answers",
    "throttled", "faults", "latency",
)  # fmt: skip
STEPS = ("ring_unheard_lanes", "free_dead_lanes", "ring_unheard_stages", "expire_due")


def write(cast: Cast, rng: Random, *, now: datetime) -> None:
    table, last, lines = Table(LaneMinute, *COLUMNS), now.replace(second=0, microsecond=0), _lines_of_a_day(now)
    for served in cast.served:
        lanes = list(served.model.lanes.all())
        for lane in lanes:
            pace = lines.get(served.model.pk, 0) / MINUTES / len(lanes)
            table.load(_minutes(served, lane, pace, rng, last))
    Table(ReconcileRun, "started_at", "seconds", "healed").load(_runs(rng, now))


def _lines_of_a_day(now: datetime) -> dict[int, int]:
    """By model: charts and batches tell the same story."""
    recent = Batch.objects.filter(created_at__gte=now - timedelta(days=1), model__isnull=False).order_by()
    return dict(recent.values_list("model").annotate(lines=Sum("completed")))


def _minutes(served: Served, lane: Lane, pace: float, rng: Random, last: datetime) -> Iterator[Row]:
    ends = last - SILENT_FOR.get(served.model.name, timedelta(0))
    load = 1.0
    for number in range(MINUTES):
        minute = last - (MINUTES - 1 - number) * MINUTE
        load = min(1.6, max(0.3, load + rng.gauss(0, 0.05)))
        if minute < ends:
            yield _minute(served, lane, rng, minute, pace * load)
        elif minute - ends < 6 * MINUTE and served.model.name == DOWN:
            yield (served.model.pk, lane.pk, lane.token, minute, 0, 0, 0, 0, 12, 0, 12, [0] * (len(BOUNDS_MS) + 1))


def _minute(served: Served, lane: Lane, rng: Random, minute: datetime, pace: float) -> Row:
    done = int(pace * (1 + 0.35 * sin((minute.hour * 60 + minute.minute) / MINUTES * 2 * pi)) + rng.random())
    failed = int(done * rng.triangular(0, 0.04, 0.005) + rng.random() * 0.9)
    pushed_back = int(done * rng.uniform(0.1, 0.5)) if served.model.name == THROTTLED else 0
    read, written = (
        int(done * tokens * rng.uniform(0.8, 1.2)) for tokens in (served.input_tokens, served.output_tokens)
    )
    return (
        *(served.model.pk, lane.pk, lane.token, minute, max(0, done - failed), min(done, failed), read, written),
        *(done + pushed_back, pushed_back, failed // 3, _latency(done, 300 + 16 * served.output_tokens, rng)),
    )


def _latency(answers: int, usual_ms: float, rng: Random) -> list[int]:
    """A sample of a hundred stands for all."""
    counts, sample = [0] * (len(BOUNDS_MS) + 1), min(answers, 100)
    for _ in range(sample):
        counts[bisect_left(BOUNDS_MS, rng.lognormvariate(0, 0.45) * usual_ms)] += 1
    return [count * answers // sample if sample else 0 for count in counts]


def _runs(rng: Random, now: datetime) -> Iterator[Row]:
    for number in range(24 * 360, 0, -1):
        healed = {rng.choice(STEPS): rng.randint(1, 3)} if rng.random() < 0.004 else {}
        yield (now - timedelta(seconds=10 * number - 4), rng.lognormvariate(-3.4, 0.4), healed)
