"""What an operator should look at, the worst first; and which batches are meant by it, so that a list shows these."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from django.db.models import Count, Exists, F, OuterRef, Q, QuerySet, Value
from django.db.models.functions import Coalesce

from batches_app import lifecycle, progress
from batches_app.health import Health, State
from batches_app.models import Batch, Lane, LaneMinute, ReconcileRun, Shard
from batches_app.queue import Snapshot
from batches_app.states import ENDING, TERMINAL, Status
from batches_app.workforce import SILENCE, is_stale, unheard
from billing_app import months
from billing_app.models import Account, Balance, BudgetAlert, LedgerEntry

LATELY = timedelta(hours=24)
PATIENCE = timedelta(minutes=2)  # a lane is free for a moment between two turns
ACTIVE = timedelta(days=7)  # an account that rests longer need not be topped up
MANY = 10  # failed requests, and a tenth of those that are done
NEAREST = 200  # batches whose end is foretold, by their deadline

ALIVE = [status for status in Status if status not in TERMINAL]


class Kind(StrEnum):
    """In the order in which they are told."""

    REDIS_AWAY = "redis_away"
    RECONCILER_SILENT = "reconciler_silent"
    NO_WORKERS = "no_workers"
    MODELS_DOWN = "models_down"
    LATE = "late"
    STUCK = "stuck"
    FAILED = "failed"
    MANY_ERRORS = "many_errors"
    STALE_WORKERS = "stale_workers"
    MODELS_THROTTLED = "models_throttled"
    MODELS_PAUSED = "models_paused"
    OUT_OF_CREDIT = "out_of_credit"
    BUDGET_USED_UP = "budget_used_up"


URGENT = frozenset(list(Kind)[:6])


@dataclass(frozen=True, slots=True)
class Item:
    """`names`: whom it concerns, and how many of each (0: that is no number of things). `is_least`: there may be more
    than `count`, for not all were looked at."""

    kind: Kind
    count: int
    names: Sequence[tuple[str, int]] = ()
    since: datetime | None = None
    note: str = ""
    is_least: bool = False

    @property
    def is_urgent(self) -> bool:
        return self.kind in URGENT


@dataclass(frozen=True, slots=True)
class UnderWay:
    """Batches: a lane works on `running`; `waiting` are validated or to be, and nobody works on them now."""

    running: int
    waiting: int
    ending: int

    @property
    def total(self) -> int:
        return self.running + self.waiting + self.ending


# Which batches


_IN_HAND = Exists(Shard.objects.filter(batch=OuterRef("pk"), state=Shard.State.RUNNING))  # of a lane
# As UnderWay counts them
WORK: Mapping[str, Q] = {
    "running": Q(_IN_HAND, status=Status.IN_PROGRESS),
    "waiting": Q(~_IN_HAND, status__in=[Status.IN_PROGRESS, Status.VALIDATING]),
}


def failed_lately(now: datetime) -> QuerySet[Batch]:
    return Batch.objects.filter(status=Status.FAILED, failed_at__gte=now - LATELY)


def with_many_errors(now: datetime) -> QuerySet[Batch]:
    """Under way, or new enough to be somebody's worry still."""
    # In a sum, so that no database goes through the index of all batches that ever had so many.
    sums = Batch.objects.alias(bad=F("failed") + 0, done=F("completed") + F("failed"))
    many = sums.filter(bad__gte=MANY, done__lte=F("failed") * 10)
    return many.filter(Q(status__in=ALIVE) | Q(created_at__gte=now - LATELY, failed__gt=0))


def stuck(now: datetime) -> QuerySet[Batch]:
    """For their next step no worker has come in two minutes."""
    since = now - PATIENCE
    free = lifecycle.stage_is_free(now)
    unvalidated = Q(status=Status.VALIDATING, created_at__lt=since)
    unfinished = Q(status=Status.FINALIZING, finalizing_at__lt=since)
    uncancelled = Q(status=Status.CANCELLING, cancelling_at__lt=since)
    unserved = Q(status=Status.IN_PROGRESS, in_progress_at__lt=since, model__paused_at=None) & _unserved(now)
    alive = Batch.objects.filter(status__in=ALIVE)
    return alive.filter((free & (unvalidated | unfinished | uncancelled)) | unserved)


def _unserved(now: datetime) -> Q:
    held = Lane.objects.filter(model=OuterRef("model"), lease_expires_at__gt=now)
    minutes = LaneMinute.objects.filter(model=OuterRef("model"), minute__gt=now - PATIENCE)
    waiting = Shard.objects.filter(batch=OuterRef("pk"), state=Shard.State.WAITING)
    return Q(~Exists(held), ~Exists(minutes), Exists(waiting))


def late(now: datetime) -> list[Batch]:
    """Of the batches nearest their deadline those that will not be done by then, at the speed that they have."""
    # None is much older than its deadline, and SQLite would look for them from the oldest deadline on.
    running = Batch.objects.filter(status=Status.IN_PROGRESS, total__gt=0, expires_at__gte=now - LATELY)
    known = running.only("status", "expires_at", "total", "completed", "failed", "account__name")
    nearest = list(known.select_related("account").order_by("expires_at", "pk")[:NEAREST])
    rates = progress.rates([batch.pk for batch in nearest], now=now)
    return [batch for batch in nearest if _will_be_late(batch, rates.get(batch.pk, 0.0), now)]


def _will_be_late(batch: Batch, rate: float, now: datetime) -> bool:
    return progress.is_late(batch, progress.eta(batch, rate, now=now), now=now)


LISTS: Mapping[str, Callable[[datetime], QuerySet[Batch]]] = {
    Kind.FAILED: failed_lately,
    Kind.MANY_ERRORS: with_many_errors,
    Kind.STUCK: stuck,
    Kind.LATE: lambda now: Batch.objects.filter(pk__in=[batch.pk for batch in late(now)]),
}


# Which accounts


def out_of_credit(now: datetime) -> QuerySet[Balance]:
    """Prepaid accounts in use whose next batch will be refused."""
    used = LedgerEntry.objects.filter(account=OuterRef("account"), created_at__gte=now - ACTIVE)
    return Balance.objects.filter(Exists(used), is_prepaid=True, available__lte=0, account__is_enabled=True)


def budgets_used_up(now: datetime) -> QuerySet[BudgetAlert]:
    budget = F("account__monthly_budget")
    return BudgetAlert.objects.filter(
        month=months.containing(now), percent=100, budget=budget, account__is_enabled=True
    )


ACCOUNTS: Mapping[str, Callable[[datetime], QuerySet[Account]]] = {
    Kind.OUT_OF_CREDIT: lambda now: Account.objects.filter(pk__in=out_of_credit(now).values("account")),
    Kind.BUDGET_USED_UP: lambda now: Account.objects.filter(pk__in=budgets_used_up(now).values("account")),
}


# All of it


@dataclass(frozen=True, slots=True)
class Review:
    items: Sequence[Item]
    under_way: UnderWay


Names = Sequence[tuple[str, int]]


def review(health: Sequence[Health], workers: Snapshot, now: datetime, *, money: bool) -> Review:
    """`money`: also who has none left. Three queries."""
    counts = _survey(now, money=money)
    under_way = _under_way(counts)
    slow = late(now) if under_way.running or under_way.waiting else []
    items = [*_of_workers(workers, now), *_of_models(health), *_of_rows(counts, slow)]
    return Review(sorted(items, key=lambda item: list(Kind).index(item.kind)), under_way)


def _survey(now: datetime, *, money: bool) -> Mapping[str, Names]:
    """How many of what, by name: one query for all, of which each page has few."""
    branches = [*_batches(now), *(_money(now) if money else ())]
    counts: defaultdict[str, list[tuple[str, int]]] = defaultdict(list)
    for kind, name, count in branches[0].union(*branches[1:], all=True):
        if count:  # what is not grouped by a name has a row where there is nothing, too
            counts[kind].append((name, count))
    return {kind: sorted(names, key=lambda one: (-one[1], one[0])) for kind, names in counts.items()}


_STATUS, _RUNNING, _RECONCILED = "status", "running", "reconciled"


def _batches(now: datetime) -> Iterator["QuerySet[Any, Any]"]:
    held = Shard.objects.filter(state=Shard.State.RUNNING, batch__status=Status.IN_PROGRESS)
    yield _counted(Batch.objects.filter(status__in=ALIVE), _STATUS, "status")
    yield _counted(held, _RUNNING, None, Count("batch", distinct=True))
    yield _counted(ReconcileRun.objects.filter(started_at__gte=now - SILENCE), _RECONCILED, None)
    yield _counted(failed_lately(now), Kind.FAILED, "account__name")
    yield _counted(_by_key(with_many_errors(now)), Kind.MANY_ERRORS, "account__name")
    yield _counted(stuck(now), Kind.STUCK, "account__name")


def _by_key(batches: QuerySet[Batch]) -> QuerySet[Batch]:
    """Found first, and joined then: SQLite would begin with the accounts, and go through all batches of each."""
    return Batch.objects.filter(pk__in=batches.values("pk"))


def _money(now: datetime) -> Iterator["QuerySet[Any, Any]"]:
    yield _counted(out_of_credit(now), Kind.OUT_OF_CREDIT, "account__name")
    yield _counted(budgets_used_up(now), Kind.BUDGET_USED_UP, "account__name")


def _counted(rows: "QuerySet[Any]", kind: str, name: str | None, count: Any = None) -> "QuerySet[Any, Any]":
    # Not the name itself: SQLite would go through all accounts in its order, and through all their batches.
    what = Coalesce(F(name), Value("")) if name else Value("")
    named = rows.order_by().annotate(kind=Value(kind), what=what)
    counted: QuerySet[Any, Any] = named.values_list("kind", "what").annotate(number=count or Count("pk"))
    return counted


def _under_way(counts: Mapping[str, Names]) -> UnderWay:
    by_status = dict(counts.get(_STATUS, ()))
    running = sum(count for _, count in counts.get(_RUNNING, ()))
    waiting = by_status.get(Status.IN_PROGRESS, 0) + by_status.get(Status.VALIDATING, 0) - running
    return UnderWay(running, waiting, sum(by_status.get(status, 0) for status in ENDING))


def _of_rows(counts: Mapping[str, Names], slow: Sequence[Batch]) -> Iterator[Item]:
    if _RECONCILED not in counts:
        yield Item(Kind.RECONCILER_SILENT, 1)
    if slow:
        whose = Counter(batch.account.name for batch in slow)
        yield Item(Kind.LATE, len(slow), whose.most_common(), is_least=len(slow) == NEAREST)
    for kind in (Kind.FAILED, Kind.MANY_ERRORS, Kind.STUCK):
        if names := counts.get(kind):
            yield Item(kind, sum(count for _, count in names), names)
    for kind in (Kind.OUT_OF_CREDIT, Kind.BUDGET_USED_UP):
        if names := counts.get(kind):
            yield Item(kind, len(names), [(name, 0) for name, _ in names])


def _of_workers(workers: Snapshot, now: datetime) -> Iterator[Item]:
    if not workers.reachable:
        yield Item(Kind.REDIS_AWAY, 1)
        return
    if missing := unheard(workers, now):
        yield Item(Kind.NO_WORKERS, len(missing), [(name, 0) for name in missing])
    if stale := [worker for worker in workers.workers if is_stale(worker, now)]:
        beats = [worker.heartbeat for worker in stale if worker.heartbeat]
        names = [(f"{worker.host}:{worker.pid}", 0) for worker in stale]
        yield Item(Kind.STALE_WORKERS, len(stale), names, since=min(beats, default=None))


_OF_STATE = {
    State.DOWN: Kind.MODELS_DOWN,
    State.THROTTLED: Kind.MODELS_THROTTLED,
    State.PAUSED: Kind.MODELS_PAUSED,
}


def _of_models(health: Sequence[Health]) -> Iterator[Item]:
    for state, kind in _OF_STATE.items():
        if concerned := [one for one in health if one.state is state]:
            since = min((one.since for one in concerned if one.since), default=None)
            names = [(one.model.name, 0) for one in concerned]
            yield Item(kind, len(concerned), names, since, concerned[0].reason)
