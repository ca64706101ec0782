"""A batch from creation to its end: the only writer of `Batch.status`."""

import hashlib
import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec
from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Count, Exists, F, Min, OuterRef, Q
from structlog.contextvars import bind_contextvars

from batches_app import admission, history, queue
from batches_app.models import Batch, ServedModel, Shard
from batches_app.states import ALLOWED_FROM, ENDING, STAMPED, TERMINAL, Status
from billing_app import ledger, running_counts
from billing_app.models import Account, APIKey, Price
from files_app import retention
from files_app.models import StoredFile

log = logging.getLogger(__name__)


class NotCancellable(Exception):
    """B8: the batch has come too far. Its only argument is the status it has."""


class IdempotencyConflict(Exception):
    """C5: the key was used before, with another request."""


@dataclass(frozen=True, slots=True)
class NewBatch:
    """A request to create a batch, checked for form (B1-B3) and nothing else."""

    endpoint: str
    input_file_id: str
    completion_window: str
    window: timedelta
    metadata: dict[str, str] | None = None
    output_expires_after: int | None = None
    idempotency_key: str | None = None
    parent_id: int | None = None  # of a retry, with the code of the lines that it runs again
    retried_code: str = ""

    @property
    def fingerprint(self) -> str:
        facts = (self.endpoint, self.input_file_id, self.completion_window, self.metadata, self.output_expires_after)
        return hashlib.sha256(msgspec.json.encode(facts, order="deterministic")).hexdigest()


def create(account: Account, api_key: APIKey | None, new: NewBatch, *, now: datetime) -> Batch:
    """B1, C5. A file that does not exist is no error here: the batch fails in validation (V11).

    Raises IdempotencyConflict, admission.TooManyBatches, admission.OutOfFunds.
    """
    if existing := _earlier(account, new):
        return existing
    try:
        with transaction.atomic():
            admission.check_new(account, api_key, new.endpoint, now=now)
            return _insert(account, api_key, new, now)
    except IntegrityError:
        if existing := _earlier(account, new):  # the same key, at the same time
            return existing
        raise


def _earlier(account: Account, new: NewBatch) -> Batch | None:
    if new.idempotency_key is None:
        return None
    batch = Batch.objects.filter(account=account, idempotency_key=new.idempotency_key).first()
    if batch is not None and batch.request_fingerprint != new.fingerprint:
        raise IdempotencyConflict
    return batch


def _insert(account: Account, api_key: APIKey | None, new: NewBatch, now: datetime) -> Batch:
    batch = Batch(
        account=account,
        api_key=api_key,
        endpoint=new.endpoint,
        input_file_id=new.input_file_id,
        completion_window=new.completion_window,
        metadata=new.metadata,
        name=(new.metadata or {}).get("ds_name", ""),
        output_expires_after=new.output_expires_after,
        idempotency_key=new.idempotency_key,
        request_fingerprint=new.fingerprint,
        parent_id=new.parent_id,
        retried_code=new.retried_code,
        created_at=now,
        expires_at=now + new.window,
    )
    file = StoredFile.objects.visible().filter(account=account, public_id=new.input_file_id).first()
    if file is not None and retention.hold(file, batch.public_id):
        batch.source = file
    batch.save(force_insert=True)
    ring_stage(queue.Job.VALIDATE, batch)
    return batch


def move(batch_id: int, to: Status, *, now: datetime, **changes: Any) -> bool:
    """The only way from state to state. False: the batch is not in a state that leads there (any more)."""
    if to in STAMPED:
        changes[f"{to}_at"] = now
    moved = Batch.objects.filter(pk=batch_id, status__in=ALLOWED_FROM[to]).update(status=to, **changes) == 1
    if moved and to in TERMINAL:
        running_counts.add(running_counts.ENDED + to, 1)
    return moved


def cancel(batch: Batch, stop: history.Stop, *, now: datetime) -> Batch:
    """B8. At once no further line is claimed; lanes stop sending at their next flush."""
    with transaction.atomic():
        moved = move(batch.pk, Status.CANCELLING, now=now)
        if moved:
            _stop(batch)
            history.note_stop(batch, stop, now=now)
    batch.refresh_from_db()
    if not moved and batch.status not in (Status.CANCELLING, Status.CANCELLED):
        raise NotCancellable(batch.status)
    return batch


def stop_uncovered(public_id: str, *, now: datetime) -> None:
    """What the batch used went beyond its hold and the account's credit: nothing more is sent."""
    unfinished = Q(total__gt=F("completed") + F("failed"))
    for batch in Batch.objects.filter(unfinished, public_id=public_id, status=Status.IN_PROGRESS):
        log.warning("%s is cancelled: the credit of its account is used up.", batch)
        cancel(batch, history.FOR_CREDIT, now=now)


def expire(batch: Batch, *, now: datetime) -> bool:
    """B10. Lines in flight may still come in until the batch is sealed."""
    with transaction.atomic():
        moved = move(batch.pk, Status.FINALIZING, now=now)
        if moved:
            _stop(batch)
    return moved


def _stop(batch: Batch) -> None:
    Shard.objects.filter(batch=batch, state=Shard.State.WAITING).update(state=Shard.State.CLOSED)
    ring_stage(queue.Job.FINALIZE, batch)


def begin(batch: Batch, *, model: ServedModel, price: Price, total: int, enqueued_tokens: int, now: datetime) -> bool:
    """The batch is valid and runs from here. Its shards belong in the same transaction."""
    facts = {"model": model, "model_name": model.name, "price": price, "total": total}
    return move(batch.pk, Status.IN_PROGRESS, now=now, enqueued_tokens=enqueued_tokens, **facts)


def fail(batch: Batch, errors: Sequence[dict[str, Any]], *, now: datetime) -> bool:
    with transaction.atomic():
        moved = move(batch.pk, Status.FAILED, now=now, errors=list(errors))
        if moved:
            retention.release(batch.public_id)
    return moved


def complete_if_done(batch_ids: Sequence[int], *, now: datetime) -> int:
    """A running batch of which every line has its result goes on to finalizing, sealed. Returns how many did."""
    completed = 0
    still_open = Exists(Shard.objects.filter(batch=OuterRef("pk")).exclude(state=Shard.State.DONE))
    done = Batch.objects.filter(~still_open, pk__in=batch_ids, status=Status.IN_PROGRESS)
    for batch in done:
        with transaction.atomic():
            if move(batch.pk, Status.FINALIZING, now=now, sealed_at=now):
                ring_stage(queue.Job.FINALIZE, batch)
                completed += 1
    return completed


def seal_if_drained(batch: Batch, *, now: datetime) -> bool:
    """A stopped batch is sealed when no lane works on it any more. True: it is sealed, its results are final."""
    in_flight = Exists(Shard.objects.filter(batch=OuterRef("pk"), state=Shard.State.RUNNING))
    Batch.objects.filter(~in_flight, pk=batch.pk, status__in=ENDING, sealed_at=None).update(sealed_at=now)
    batch.refresh_from_db()
    return batch.sealed_at is not None


def conclude(batch: Batch, to: Status, *, now: datetime, output_file_id: str, error_file_id: str) -> bool:
    """The terminal state, in the transaction that makes the result files known. What led there is not needed any
    more; the ledger and the files are."""
    if not move(batch.pk, to, now=now, output_file_id=output_file_id, error_file_id=error_file_id):
        return False
    ledger.release_hold(batch.account_id, batch.public_id, now=now)
    retention.release(batch.public_id)
    batch.checkpoints.all().delete()
    batch.shards.all().delete()
    return True


def next_to_validate(*, now: datetime) -> int | None:
    """The oldest batch of the account that has the fewest waiting: who brings one is not behind who brings many."""
    waiting = Batch.objects.filter(stage_is_free(now), status=Status.VALIDATING).order_by()
    by_account = waiting.values("account").annotate(number=Count("pk"), oldest=Min("pk"))
    return by_account.order_by("number", "oldest").values_list("oldest", flat=True).first()


def claim_stage(batch_id: int, statuses: Collection[Status], *, now: datetime) -> Batch | None:
    """The lease of the job that validates or finalizes a batch: it keeps a second one from doing the same work in
    vain. That the work is not done twice is for `move` to say."""
    lease = now + timedelta(seconds=settings.STAGE_LEASE)
    due = Batch.objects.filter(stage_is_free(now), pk=batch_id, status__in=statuses)
    if not due.update(stage_expires_at=lease, stage_token=F("stage_token") + 1):
        return None
    batch = Batch.objects.select_related("account", "source", "model", "price").get(pk=batch_id)
    # For as long as its work-horse lives: what RQ says of a stage that failed is about this batch too.
    bind_contextvars(batch=batch.public_id, account=batch.account.name)
    return batch


def stage_is_free(now: datetime) -> Q:
    return Q(stage_expires_at=None) | Q(stage_expires_at__lt=now)


def renew_stage(batch: Batch, *, now: datetime) -> bool:
    lease = now + timedelta(seconds=settings.STAGE_LEASE)
    mine = Batch.objects.filter(pk=batch.pk, stage_token=batch.stage_token, status=batch.status)
    return mine.update(stage_expires_at=lease) == 1


def release_stage(batch: Batch) -> None:
    Batch.objects.filter(pk=batch.pk, stage_token=batch.stage_token).update(stage_expires_at=None)


def ring_if_ending(batch: Batch) -> None:
    """For a batch that was stopped while its stage was taken: the bell that was rung then found it so."""
    batch.refresh_from_db()
    if batch.status in ENDING:
        ring_stage(queue.Job.FINALIZE, batch)


def ring_stage(job: queue.Job, batch: Batch) -> queue.Bell:
    # With the stage's token, a bell rung while the last job is about to end is not taken for that job's own.
    return queue.ring(job, once_per=f"{batch.pk}-{batch.stage_token}", batch_id=batch.pk)
