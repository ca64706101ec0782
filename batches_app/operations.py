"""What operators do to many batches at once: resolved into a draft, confirmed, and carried out by a worker.

What is done to a batch commits together with the operation's position, so that a crash repeats nothing.
"""

import logging
import time
from collections.abc import Mapping
from datetime import datetime, timedelta

import msgspec
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils.translation import gettext as _

from batches_app import clock, history, lifecycle, operation_lease, queue, retrying
from batches_app.models import Batch, Operation
from batches_app.models.operating import QUERY_LENGTH
from batches_app.retrying import CannotRetry, Obstacle
from batches_app.states import ALLOWED_FROM, Status
from billing_app import audit

log = logging.getLogger(__name__)

CANCELLABLE = sorted(ALLOWED_FROM[Status.CANCELLING])
MOST_TARGETS = 50_000
MOST_COUNTED = 10_000  # of what is left out: beyond that, "more than"
AT_ONCE = 20  # targets that are dealt with while the operator waits
TURN = 3.0  # seconds; then the other short jobs have theirs
KEPT_PROBLEMS = 100
DRAFT_AGE = timedelta(days=1)
MOST_ATTEMPTS = 5  # at one step; then somebody is to look into it
State = Operation.State


class TooMany(Exception):
    """The argument says how many an operation takes."""


class NoTargets(Exception):
    """The argument says why there is nothing to do."""


class Overtaken(Exception):
    """The same lines are being run again already, or have been since this was drafted."""


def draft_cancel(batches: QuerySet[Batch], *, by: Mapping[str, str], query: str, now: datetime) -> Operation:
    """Resolved now: what comes to match the filters later is no part of it. Raises TooMany, NoTargets."""
    cancellable = batches.filter(status__in=CANCELLABLE).order_by("pk")
    targets = list(cancellable.values_list("pk", flat=True)[: MOST_TARGETS + 1])
    if len(targets) > MOST_TARGETS:
        most = f"{MOST_TARGETS:,}"
        raise TooMany(_("An operation takes at most %(most)s batches. Narrow the filters.") % {"most": most})
    if not targets:
        raise NoTargets(_("There is nothing to cancel: these batches have ended, or are about to."))
    others = batches.exclude(status__in=CANCELLABLE).order_by()
    return Operation.objects.create(
        kind=Operation.Kind.CANCEL,
        created_by=by["actor"],
        address=by["address"],
        created_at=now,
        query=query if len(query) <= QUERY_LENGTH else "",
        targets=targets,
        total=len(targets),
        left_out=others[: MOST_COUNTED + 1].count(),
    )


def draft_retry(batch: Batch, code: str, *, by: Mapping[str, str], now: datetime) -> Operation:
    """Of all failed lines, or of those with the code. Raises CannotRetry."""
    source = retrying.source(batch, code, now=now)
    return Operation.objects.create(
        kind=Operation.Kind.RETRY,
        created_by=by["actor"],
        address=by["address"],
        created_at=now,
        targets=[batch.pk],
        total=source.lines,
        error_code=code,
    )


def start(operation: Operation, reason: str, *, by: Mapping[str, str], now: datetime) -> bool:
    """From here on it is the starter's. False: it was started before. Raises Overtaken: else what succeeds would be
    billed twice, and nobody would have been told."""
    facts = {"created_by": by["actor"], "address": by["address"], "reason": reason}
    with transaction.atomic():
        draft = Operation.objects.filter(pk=operation.pk, state=State.DRAFT)
        if not draft.update(state=State.RUNNING, started_at=now, **facts):
            return False
        if operation.kind == Operation.Kind.RETRY and _is_overtaken(operation):
            raise Overtaken
        operation.refresh_from_db()
        _record(operation, "started", {"total": operation.total})
        if not _is_short(operation):
            _ring(operation)
    if _is_short(operation):
        carry_out(operation.pk)
    return True


def others_under_way(retry: Operation) -> QuerySet[Operation]:
    return _others(retry).filter(state=State.RUNNING)


def _is_overtaken(retry: Operation) -> bool:
    # Locked, so that of two which start at once the second sees the first.
    Batch.objects.select_for_update(no_key=True).get(pk=retry.targets[0])
    since = Q(state=State.DONE, started_at__gte=retry.created_at)
    return _others(retry).filter(Q(state=State.RUNNING) | since).exists()


def _others(retry: Operation) -> QuerySet[Operation]:
    """Retries of the same lines, or of some of them."""
    others = Operation.objects.filter(kind=Operation.Kind.RETRY, targets=retry.targets).exclude(pk=retry.pk)
    return others.filter(error_code__in=["", retry.error_code]) if retry.error_code else others


def abort(operation: Operation, *, by: Mapping[str, str], now: datetime) -> bool:
    """At once: who carries it out cannot commit another step. False: it does not run."""
    with transaction.atomic():
        running = Operation.objects.filter(pk=operation.pk, state=State.RUNNING)
        if not running.update(state=State.ABORTED, finished_at=now, lease_expires_at=None):
            return False
        operation.refresh_from_db()
        _record(operation, "aborted", _counts(operation), by=by)
    return True


def carry_out(operation_id: int) -> None:
    operation = operation_lease.claim(operation_id, now=clock.now())
    if operation is None:
        return
    try:
        if operation.attempts > MOST_ATTEMPTS:
            _fail(operation, Obstacle.UNFORESEEN)
        elif operation.kind == Operation.Kind.RETRY:
            _retry(operation)
        else:
            _cancel_targets(operation)
    except operation_lease.Lost:
        log.info("Operation %d was aborted, or somebody else carries it out.", operation_id)


def ring_unheld(now: datetime) -> int:
    """Running operations that nobody carries out: whoever did has died, or the bell was not heard."""
    unheld = Operation.objects.defer("targets").filter(operation_lease.free(now), state=State.RUNNING)
    return sum(_ring(operation).rang for operation in unheld)


def forget_drafts(now: datetime) -> int:
    old = Operation.objects.filter(state=State.DRAFT, created_at__lt=now - DRAFT_AGE)
    return old.delete()[0]


# Cancelling


def _cancel_targets(operation: Operation) -> None:
    turn_ends = time.monotonic() + TURN
    for batch_id in operation.targets[operation.position :]:
        with transaction.atomic():
            batch = (
                Batch.objects.select_related("account").select_for_update(of=("self",), no_key=True).get(pk=batch_id)
            )
            _count(operation, batch, _cancel(operation, batch))
        if time.monotonic() > turn_ends and operation.position < operation.total:
            _hand_over(operation)
            return
    with transaction.atomic():
        operation_lease.end(operation, State.DONE)
        _record(operation, "done", _counts(operation))


def _cancel(operation: Operation, batch: Batch) -> str:
    """Empty; or the state that the batch had reached already."""
    was = batch.status
    try:
        stop = history.by_operator(operation.created_by, operation.reason)
        lifecycle.cancel(batch, stop, now=clock.now())
    except lifecycle.NotCancellable:
        return was
    if batch.status == was:
        return was
    audit.record(
        **_by(operation),
        action="batch.cancelled",
        target=batch,
        account=batch.account.name,
        changes={"status": (was, batch.status)},
        reason=operation.reason,
    )
    return ""


def _count(operation: Operation, batch: Batch, why_not: str) -> None:
    """In the transaction that dealt with the batch: who does not hold the lease any more undoes it by failing here."""
    problems = operation.problems
    if why_not and len(problems) < KEPT_PROBLEMS:
        problems = [*problems, [batch.public_id, why_not]]
    changed = operation.changed + (not why_not)
    operation_lease.renew(operation, position=operation.position + 1, changed=changed, problems=problems, attempts=0)


def _hand_over(operation: Operation) -> None:
    with transaction.atomic():
        operation_lease.give_back(operation)
        _ring(operation)


# Retrying


def _retry(operation: Operation) -> None:
    batch = Batch.objects.select_related("account", "api_key").get(pk=operation.targets[0])

    def every_second(lines: int) -> None:
        operation_lease.renew(operation, position=min(lines, operation.total))

    try:
        with (
            retrying.prepared(batch, operation.error_code, every_second=every_second) as prepared,
            transaction.atomic(),
        ):
            result, lines = prepared.create(now=clock.now()), prepared.lines
            operation_lease.end(operation, State.DONE, result=result, total=lines, position=lines, changed=lines)
            _record_retry(operation, batch, result)
    except CannotRetry as error:
        _fail(operation, error.why)
    except msgspec.MsgspecError:
        _fail(operation, Obstacle.MISMATCH)


def _record_retry(operation: Operation, batch: Batch, result: Batch) -> None:
    audit.record(
        **_by(operation),
        action="batch.retried",
        target=batch,
        account=batch.account.name,
        changes={"retry": (None, result.public_id), "code": (None, operation.error_code or None)},
        reason=operation.reason,
    )
    _record(operation, "done", {"lines": operation.changed})


def _fail(operation: Operation, why: str) -> None:
    at = min(operation.position, len(operation.targets) - 1)  # of a retry the position is one of lines
    stumbled = Batch.objects.only("public_id").get(pk=operation.targets[at])
    with transaction.atomic():
        problems = [*operation.problems[: KEPT_PROBLEMS - 1], [stumbled.public_id, why]]
        operation_lease.end(operation, State.FAILED, problems=problems)
        _record(operation, "failed", {"why": why})


# Of both


def _is_short(operation: Operation) -> bool:
    return operation.kind == Operation.Kind.CANCEL and operation.total <= AT_ONCE


def _ring(operation: Operation) -> queue.Bell:
    # With the position, a bell rung at the end of a turn is not taken for the one that began it.
    return queue.ring(queue.Job.OPERATE, once_per=f"{operation.pk}-{operation.position}", operation_id=operation.pk)


def _counts(operation: Operation) -> dict[str, int]:
    return {"changed": operation.changed, "unchanged": operation.position - operation.changed, "total": operation.total}


def _by(operation: Operation) -> dict[str, str]:
    return {"actor": operation.created_by, "address": operation.address}


def _record(
    operation: Operation, verb: str, facts: Mapping[str, object], *, by: Mapping[str, str] | None = None
) -> None:
    changes = {name: (None, value) for name, value in facts.items()}
    actor = by or _by(operation)
    audit.record(
        actor=actor["actor"],
        address=actor["address"],
        action=f"operation.{verb}",
        target=operation,
        changes=changes,
        reason=operation.reason,
    )
