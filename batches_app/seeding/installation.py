"""All of it, in the order in which it came to be."""

import logging
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import groupby
from random import Random

from django.conf import settings

from batches_app import routing
from batches_app.models import Batch, BatchEvent, Lane
from batches_app.seeding import arrivals, cast, money, rhythm, traffic, trail, vocabulary
from batches_app.seeding.arrivals import Arrival
from batches_app.seeding.books import Books
from batches_app.seeding.cast import DOWN, OPERATORS, PAUSED, THROTTLED, Cast
from batches_app.seeding.loading import gather_statistics
from batches_app.seeding.past import Past
from batches_app.seeding.present import Present, finish

MOST_UNDER_WAY, DONE = 80, 12


def seed(batches: int, accounts: int, number: int, *, now: datetime, say: Callable[[str], None]) -> str:
    """Returns the password of the operators."""
    rng = Random(number)  # nosec B311  # the same again for the same number
    people = cast.create(accounts, rng, now=now)
    under_way, done = min(MOST_UNDER_WAY, batches // 40), min(DONE, batches // 40)
    planned = arrivals.plan(under_way, done, people, rng, now=now)
    ended = batches - len(planned) - (1 if done else 0)  # one is a retry
    books = Books()
    say(f"{accounts:,} accounts, {len(people.served)} models")
    with _bells_unheard():
        came = _let_come(Past(people, books, rng, now=now), planned, ended, rng, now)
        books.write()
        money.settle(people, rng, now=now)
        say(f"{batches:,} batches with their files and charges")
        trail.write(people, rng, now=now)
        _bring(planned, came, rng, now)
    traffic.write(people, rng, now=now)
    _show_lanes(people, rng, now)
    password = cast.create_operators()
    gather_statistics()
    return password


@contextmanager
def _bells_unheard() -> Iterator[None]:
    """This process does itself what the bells call workers for. That nobody hears them is no error, and not worth a
    traceback each."""
    log = logging.getLogger("django.db.backends.base")
    log.disabled = True
    try:
        yield
    finally:
        log.disabled = False


def _let_come(past: Past, planned: list[Arrival], count: int, rng: Random, now: datetime) -> list[Batch]:
    """Those that have ended and those that are under way in one order, so that ids grow with time."""
    times, came = [arrival.created for arrival in planned], list[Batch]()
    for place, moments in groupby(rhythm.moments(count, rng, now=now), key=lambda at: bisect_left(times, at)):
        came += [arrivals.create(arrival, rng) for arrival in planned[len(came) : place]]
        past.write(moments)
    return [*came, *(arrivals.create(arrival, rng) for arrival in planned[len(came) :])]


def _bring(planned: list[Arrival], came: list[Batch], rng: Random, now: datetime) -> None:
    present = Present(rng, now=now)
    for arrival, batch in zip(planned, came, strict=True):
        present.bring(arrival, batch)
    if (again := trail.retry(now=now)) is not None:
        finish(again)


def _show_lanes(people: Cast, rng: Random, now: datetime) -> None:
    """As if workers held them. When none does, the reconciler finds out within a lease's time."""
    lease = now + timedelta(seconds=settings.LANE_LEASE)
    for served in people.served:
        for lane in served.model.lanes.all():
            facts = _facts(served.model.name, lane, rng, now)
            owner = f"worker-{rng.randint(1, 3)}:{rng.randint(1000, 30000)}"
            BatchEvent.objects.filter(lane=str(lane), owner=lane.owner).exclude(owner="").update(owner=owner)
            Lane.objects.filter(pk=lane.pk).update(owner=owner, lease_expires_at=lease, **facts)
        if served.model.name == PAUSED:
            Lane.objects.filter(model=served.model).update(owner="", lease_expires_at=None, in_flight=0, limit=0)
            since, why = now - traffic.SILENT_FOR[PAUSED], "new cards are being fitted"
            routing.pause(served.model, by=OPERATORS["operator"], reason=why, now=since)


def _facts(model: str, lane: Lane, rng: Random, now: datetime) -> dict[str, object]:
    if model == DOWN:
        since = now - traffic.SILENT_FOR[DOWN]
        return {"limit": lane.permits, "in_flight": 1, "paused_since": since, "pause_reason": vocabulary.DOWN}
    if model == THROTTLED:
        limit = max(1, lane.permits // 6)
        return {"limit": limit, "in_flight": limit, "paused_since": None, "pause_reason": vocabulary.THROTTLED}
    in_flight = int(lane.permits * rng.uniform(0.6, 1))
    return {"limit": lane.permits, "in_flight": in_flight, "paused_since": None, "pause_reason": ""}
