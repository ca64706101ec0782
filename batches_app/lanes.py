"""Who may send what: leases on lanes, claims on shards, and a fair share for each account.

A lane is held by whoever made its token grow last. Everything its holder writes is conditional on that token, so
that a holder who was taken for dead and wakes up can do no harm."""

import os
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet, Sum
from structlog.contextvars import bind_contextvars

from batches_app import history, poison, queue
from batches_app.models import BatchEvent, Lane, ServedModel, Shard
from batches_app.states import Status
from batches_app.traffic import Minute
from billing_app.models import Account

WAITING = Q(state=Shard.State.WAITING, batch__status=Status.IN_PROGRESS)


class LeaseLost(Exception):
    """Another holder has the lane: what this one still has in hand is void."""


@dataclass(frozen=True, slots=True)
class HeldLane:
    id: int
    model_id: int
    token: int
    name: str = ""
    owner: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """What a holder says of its lane with each renewal, for operators. `minute`: None if it has nothing new in it."""

    limit: int = 0
    in_flight: int = 0
    paused_since: datetime | None = None
    pause_reason: str = ""
    minute: Minute | None = None


def acquire(lane_id: int, *, now: datetime) -> HeldLane | None:
    """The lease, if nobody has it and its model is not paused. Shards of an earlier holder are set free."""
    owner = queue.owner_name(os.getpid())
    with transaction.atomic():
        ready = Lane.objects.filter(_unleased(now), pk=lane_id, permits__gt=0, model__paused_at=None)
        lane = ready.select_related("model").first()
        if lane is None:
            return None
        lease = now + timedelta(seconds=settings.LANE_LEASE)
        mine = ready.filter(token=lane.token)
        if not mine.update(token=lane.token + 1, owner=owner, lease_expires_at=lease):
            return None
        _free_lost_shards(lane, now)
    bind_contextvars(lane=str(lane))
    return HeldLane(lane.pk, lane.model_id, lane.token + 1, str(lane), owner)


def renew(held: HeldLane, report: Report, *, now: datetime) -> None:
    """Call it in the transaction that writes what the lease protects. Raises LeaseLost."""
    # By token alone, not by expiry: a lease that ran out but was claimed by nobody is still good.
    renewed = Lane.objects.filter(pk=held.id, token=held.token).update(
        lease_expires_at=now + timedelta(seconds=settings.LANE_LEASE),
        limit=report.limit,
        in_flight=report.in_flight,
        paused_since=report.paused_since,
        pause_reason=report.pause_reason[:500],
    )
    if not renewed:
        raise LeaseLost


def release(held: HeldLane, batch_ids: Collection[int] = (), *, now: datetime) -> None:
    """Gives the lane and its shards back, and wakes a worker if there is more to do. `batch_ids`: the batches that
    the holder had in hand."""
    with transaction.atomic():
        # The lane before its shards, as who frees a dead one does: in the other order each may wait for the other.
        mine = Lane.objects.filter(pk=held.id, token=held.token)
        if mine.update(lease_expires_at=None, owner="", limit=0, in_flight=0, paused_since=None, pause_reason=""):
            note(history.RELEASED, held, batch_ids, now=now)
        free_shards(shards_of(held))
    # After the release: work that came in while this lane was about to end saw it as live and rang no bell.
    ring_lanes(held.model_id)


def note(kind: BatchEvent.Kind, held: HeldLane, batch_ids: Collection[int], *, now: datetime) -> None:
    history.note(kind, batch_ids, lane=held.name, owner=held.owner, now=now)


def free_dead(*, now: datetime) -> int:
    """Sets free the lanes whose lease has run out, with their shards. Returns their number."""
    dead = Lane.objects.filter(lease_expires_at__lt=now).select_related("model")
    return sum(_free(lane, Q(lease_expires_at__lt=now), now) for lane in dead)


def free_lanes_of(owner: str, *, now: datetime) -> None:
    """Sets free what a process held that is known to be dead, and wakes others to go on with it."""
    for lane in Lane.objects.filter(owner=owner).select_related("model"):
        _free(lane, Q(owner=owner), now)
        ring_lanes(lane.model_id)


def _free(lane: Lane, still: Q, now: datetime) -> bool:
    with transaction.atomic():
        dead = Lane.objects.filter(still, pk=lane.pk, token=lane.token)
        if not dead.update(token=F("token") + 1, lease_expires_at=None, owner="", in_flight=0):
            return False
        _free_lost_shards(lane, now)
        return True


def _free_lost_shards(lane: Lane, now: datetime) -> None:
    """`lane`: as it was while its last holder had it, who is not to have it any more."""
    lost = Shard.objects.filter(lane=lane, lane_token__lte=lane.token, state=Shard.State.RUNNING)
    batch_ids = set(lost.values_list("batch", flat=True))
    if batch_ids:
        history.note(history.LOST, batch_ids, lane=str(lane), owner=lane.owner, now=now)
        poison.note_losses(lost)
        free_shards(lost)


def shards_of(held: HeldLane) -> "QuerySet[Shard]":
    return Shard.objects.filter(lane=held.id, lane_token=held.token)


def free_shards(shards: "QuerySet[Shard]") -> None:
    """To wait again, or to be closed where the batch was stopped meanwhile."""
    running = shards.filter(state=Shard.State.RUNNING)
    running.exclude(batch__status=Status.IN_PROGRESS).update(state=Shard.State.CLOSED)
    running.update(state=Shard.State.WAITING)


def claim(held: HeldLane, *, besides: Collection[int] = (), without: Collection[int] = ()) -> Shard | None:
    """The next shard to work on: from the account with the least in flight for its weight, the one whose batch is
    nearest its deadline. `besides`: accounts that this lane has enough of; `without`: batches that it cannot read."""
    for account_id in _accounts_in_turn(held.model_id, besides):
        shard = _take_first(held, ~poison.SUSPECT & Q(account=account_id), without)
        if shard is not None:
            return shard
    return None


def claim_suspect(held: HeldLane, *, without: Collection[int] = ()) -> Shard | None:
    """One that is to be run with nothing else in hand (poison.py)."""
    return _take_first(held, poison.SUSPECT, without)


def _accounts_in_turn(model_id: int, besides: Collection[int]) -> list[int]:
    waiting = Shard.objects.filter(WAITING, ~poison.SUSPECT, model=model_id, account=OuterRef("pk"))
    accounts = Account.objects.filter(Exists(waiting)).exclude(pk__in=besides).values_list("pk", "weight")
    running = Shard.objects.filter(state=Shard.State.RUNNING, model=model_id)
    load = dict(running.order_by().values_list("account").annotate(requests=Sum("requests")))
    return [pk for pk, weight in sorted(accounts, key=lambda account: load.get(account[0], 0) / account[1])]


def _take_first(held: HeldLane, which: Q, without: Collection[int]) -> Shard | None:
    with transaction.atomic():
        waiting = Shard.objects.filter(WAITING, which, model=held.model_id).order_by("deadline", "id")
        if without:
            waiting = waiting.exclude(batch__in=without)
        shard = waiting.select_for_update(skip_locked=True, of=("self",)).first()
        if shard is None:
            return None
        taken = Shard.objects.filter(pk=shard.pk, state=Shard.State.WAITING).update(
            state=Shard.State.RUNNING,
            lane=held.id,
            lane_token=held.token,
            claims=F("claims") + 1,
            suspect_line=None,
        )
        if not taken or not Lane.objects.filter(pk=held.id, token=held.token).exists():
            transaction.set_rollback(True)
            return None
    shard.claims += 1
    return shard


def ring_lanes(model_id: int) -> list[queue.Bell]:
    """Wakes as many idle lanes of the model as there are waiting shards, at most all; none of a paused model."""
    waiting = Shard.objects.filter(WAITING, model=model_id)
    # Only as many as it takes: a batch of one line needs one worker.
    idle = Lane.objects.filter(lease_expires_at=None, model=model_id, model__paused_at=None, permits__gt=0)
    lanes = list(idle.order_by("number"))
    # With the token: a bell for the next holder is not taken for one that the last holder answered.
    return [
        queue.ring(queue.Job.RUN_LANE, once_per=f"{lane.pk}-{lane.token}", lane_id=lane.pk)
        for lane in lanes[: waiting[: len(lanes)].count() if lanes else 0]
    ]


def others_wait(model_id: int) -> bool:
    """Another model has waiting shards and nobody who works on them: all workers may be busy with this one."""
    live = Lane.objects.filter(model=OuterRef("pk"), lease_expires_at__isnull=False)
    return models_with_waiting().filter(~Exists(live)).exclude(pk=model_id).exists()


def models_with_waiting() -> "QuerySet[ServedModel]":
    """Without those that an operator paused."""
    waiting = Shard.objects.filter(WAITING, model=OuterRef("pk"))
    return ServedModel.objects.filter(Exists(waiting), paused_at=None)


def _unleased(now: datetime) -> Q:
    return Q(lease_expires_at=None) | Q(lease_expires_at__lt=now)
