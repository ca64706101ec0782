"""The failed lines of a batch that has ended, run again as a new batch: exactly these, byte for byte and in order."""

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import BinaryIO, cast

from django.conf import settings
from django.core.files.uploadedfile import TemporaryUploadedFile
from django.db import models, transaction
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from batches_app import admission, error_groups, lifecycle, operation_lease, results
from batches_app.models import Batch, ServedModel
from batches_app.request_parsing import read_custom_id
from batches_app.states import TERMINAL, Status
from billing_app import prices, quotas
from billing_app.models import Account, APIKey, Reservation
from billing_app.pricing import Tokens, charge
from files_app import blobs, jsonl, retention, uploads
from files_app.models import StoredFile

TICK = 1.0  # seconds


class Obstacle(models.TextChoices):
    DISABLED = "account_disabled", _("Its account is disabled.")
    RUNNING = "still_running", _("It has not ended yet. When it has, its failed lines can be retried.")
    INVALID = "invalid_input", _("Its input file did not pass validation, so that none of its lines was run.")
    NO_LINES = "no_lines", _("None of its lines failed.")
    NO_SUCH_LINES = "no_such_lines", _("None of its lines failed with this code.")
    NO_INPUT = "no_input", _("Its input file was deleted or has expired, and the requests with it.")
    NO_ERRORS = "no_errors", _("Its error file was deleted or has expired: which lines failed is not known any more.")
    NO_MODEL = "no_model", _("Its model takes no new batches.")
    NO_PRICE = "no_price", _("Its model has no price in force, so that the lines could not be billed.")
    MISMATCH = "mismatch", _("Its error file does not belong to its input file.")
    NO_ROOM = "no_room", _("Its account has no room for the new input file: it is at its limit of files or of bytes.")
    TOO_MANY = "too_many_batches", _("Its account has as many batches under way as it may.")
    NO_FUNDS = "no_funds", _("Credit, budget or the limit of its key is used up. The page of its account shows which.")
    UNFORESEEN = "unforeseen", _("It did not come to an end several times, for a reason that only the log tells.")


REFUSALS = {
    quotas.QuotaReached: Obstacle.NO_ROOM,
    admission.TooManyBatches: Obstacle.TOO_MANY,
    admission.OutOfFunds: Obstacle.NO_FUNDS,
}


class CannotRetry(Exception):
    def __init__(self, why: Obstacle) -> None:
        super().__init__(why)
        self.why = why


@contextmanager
def _refusals_as_obstacles() -> Iterator[None]:
    try:
        yield
    except tuple(REFUSALS) as error:
        raise CannotRetry(REFUSALS[type(error)]) from None


def sentence(why: str) -> Promise | str:
    return Obstacle(why).label if why in Obstacle.values else why  # as operations of earlier versions have it


@dataclass(frozen=True, slots=True)
class Source:
    """Where a batch's failed lines are, of one code or (empty) of all, and how many."""

    batch: Batch
    code: str
    lines: int
    input: StoredFile
    errors: StoredFile


@dataclass(frozen=True, slots=True)
class Prepared:
    """The new input file, stored but not known yet, with its room reserved."""

    source: Source
    lines: int
    upload: uploads.Upload
    blob: str
    room: Reservation

    def create(self, *, now: datetime) -> Batch:
        """File and batch, in the transaction that says that the retry is done. Raises CannotRetry."""
        parent = self.source.batch
        # First, as who creates a batch does: files and quota before it would be the other way round.
        Account.objects.select_for_update(no_key=True).get(pk=parent.account_id)
        with _refusals_as_obstacles():
            file = uploads.insert(parent.account, self.upload, self.blob, self.room, now=now)
            new = _new_batch(self.source, file)
            return lifecycle.create(parent.account, key_for(parent, now=now), new, now=now)


def source(batch: Batch, code: str, *, now: datetime) -> Source:
    """Raises CannotRetry, also for what would only refuse the new batch: nothing is copied in vain."""
    if obstacle := _unfit(batch):
        raise CannotRetry(obstacle)
    lines = count_failed(batch, code)
    if not lines:
        raise CannotRetry(Obstacle.NO_SUCH_LINES if code else Obstacle.NO_LINES)
    files = {file.public_id: file for file in _files(batch)}
    if batch.error_file_id not in files:
        raise CannotRetry(Obstacle.NO_ERRORS)
    if batch.input_file_id not in files:
        raise CannotRetry(Obstacle.NO_INPUT)
    if obstacle := _unserved(batch, now):
        raise CannotRetry(obstacle)
    _check_admission(batch, now)
    return Source(batch, code, lines, files[batch.input_file_id], files[batch.error_file_id])


def count_failed(batch: Batch, code: str) -> int:
    if not code:
        return batch.total - batch.completed
    return sum(batch.error_groups.filter(code=code).values_list("count", flat=True))


def key_for(batch: Batch, *, now: datetime) -> APIKey | None:
    """The batch's own; one that is revoked or has expired starts nothing any more, and pays for nothing."""
    key = batch.api_key
    ended = key is None or key.revoked_at is not None or (key.expires_at is not None and key.expires_at <= now)
    return None if ended else key


def forecast(batch: Batch, lines: int, *, now: datetime) -> Decimal | None:
    """What so many more lines cost at the present price, if they use what those that succeeded did on average."""
    price = prices.current(batch.model_name, at=now)
    if price is None or not batch.completed:
        return None
    used = batch.tokens
    tokens = (number * lines // batch.completed for number in (used.input, used.cached, used.output, used.reasoning))
    return charge(Tokens(*tokens), price.rates)


@contextmanager
def prepared(batch: Batch, code: str, *, every_second: Callable[[int], None]) -> Iterator[Prepared]:
    """`every_second` is called with the number of lines that are copied so far. Raises CannotRetry, and whatever
    `every_second` raises."""
    found = source(batch, code, now=timezone.now())
    with TemporaryUploadedFile(found.input.filename, "", 0, "") as content:
        lines, upload = _copy(found, content, every_second)
        with _refusals_as_obstacles(), quotas.reserved(batch.account, upload.size, now=timezone.now()) as room:
            blob = uploads.write_blob(upload, now=timezone.now())
            try:
                yield Prepared(found, lines, upload, blob, room)
            except (CannotRetry, operation_lease.Lost):
                retention.discard(blob)  # after any other error it may be known all the same: `sweep_orphans` tells
                raise


def failed_lines(
    requests: BinaryIO, errors: BinaryIO, chosen: Callable[[bytes], bool], tick: Callable[[], None] = lambda: None
) -> Iterator[bytes]:
    """The lines of `requests`, line ends included, whose result is in `errors` and chosen. Both files are in input
    order, so that each is read once. Raises CannotRetry where they do not belong together. `tick` is called for each
    line that is read, wanted or not."""
    wanted = _custom_ids(errors, chosen, tick)
    next_id = next(wanted, None)
    for line in jsonl.read_lines(requests, max_bytes=settings.MAX_LINE_BYTES):
        tick()
        if next_id is None:
            return
        if read_custom_id(line.raw) == next_id:
            yield line.raw + _line_end(line)
            next_id = next(wanted, None)
    if next_id is not None:
        raise CannotRetry(Obstacle.MISMATCH)


def _custom_ids(errors: BinaryIO, chosen: Callable[[bytes], bool], tick: Callable[[], None]) -> Iterator[str]:
    # An answer as long as may be, beside a custom_id as long as may be.
    longest = settings.MAX_ANSWER_BYTES + 2 * settings.MAX_LINE_BYTES
    for line in jsonl.read_lines(errors, max_bytes=longest):
        tick()
        if chosen(line.raw):
            yield results.custom_id_of(line.raw)


def _line_end(line: jsonl.Line) -> bytes:
    """As it was; none after the last line, if that has none."""
    beyond = line.end - line.offset - line.size
    return (b"", b"\n", b"\r\n")[beyond % len(jsonl.BOM)]  # a BOM before line 1 is three more


def _unfit(batch: Batch) -> Obstacle | None:
    if not batch.account.is_enabled:
        return Obstacle.DISABLED
    if batch.status not in TERMINAL:
        return Obstacle.RUNNING
    return Obstacle.INVALID if batch.status == Status.FAILED else None


def _unserved(batch: Batch, now: datetime) -> Obstacle | None:
    model = ServedModel.objects.filter(name=batch.model_name, is_enabled=True).first()
    if model is None or batch.endpoint not in model.endpoints:
        return Obstacle.NO_MODEL
    return None if prices.current(batch.model_name, at=now) else Obstacle.NO_PRICE


def _check_admission(batch: Batch, now: datetime) -> None:
    with _refusals_as_obstacles(), transaction.atomic():
        admission.check_new(batch.account, key_for(batch, now=now), batch.endpoint, now=now)


def _files(batch: Batch) -> models.QuerySet[StoredFile]:
    ids = [batch.input_file_id, batch.error_file_id]
    return StoredFile.objects.visible().filter(account=batch.account_id, public_id__in=ids)


def _copy(
    found: Source, content: "TemporaryUploadedFile", every_second: Callable[[int], None]
) -> tuple[int, uploads.Upload]:
    digest, lines, size, next_tick = hashlib.sha256(), 0, 0, time.monotonic() + TICK

    def tick() -> None:
        nonlocal next_tick
        if time.monotonic() > next_tick:
            next_tick = time.monotonic() + TICK
            every_second(lines)

    with _opened(found.input, Obstacle.NO_INPUT) as requests, _opened(found.errors, Obstacle.NO_ERRORS) as errors:
        for line in failed_lines(requests, errors, _chooser(found), tick):
            content.write(line)
            digest.update(line)
            lines, size = lines + 1, size + len(line)
    every_second(lines)  # the lease is whole when the bytes begin to be stored
    if not lines:
        raise CannotRetry(Obstacle.NO_SUCH_LINES)
    content.flush()
    content.seek(0)
    content.size = size
    return lines, uploads.Upload(content, digest.hexdigest(), _filename(found), expires_after=_expires_after(found))


def _opened(file: StoredFile, missing: Obstacle) -> BinaryIO:
    try:
        return cast(BinaryIO, blobs.read(file.blob))
    except FileNotFoundError:
        raise CannotRetry(missing) from None


def _chooser(found: Source) -> Callable[[bytes], bool]:
    if not found.code:
        return lambda line: True
    codes = set(found.batch.error_groups.values_list("code", flat=True))
    return lambda line: error_groups.group_of(codes, results.error_of(line)[0]) == found.code


def _filename(found: Source) -> str:
    return f"{found.batch.public_id}_retry.jsonl"


def _expires_after(found: Source) -> int | None:
    """As long after its making as the batch's own input."""
    file = found.input
    return int((file.expires_at - file.created_at).total_seconds()) if file.expires_at else None


def _new_batch(found: Source, file: StoredFile) -> lifecycle.NewBatch:
    parent = found.batch
    return lifecycle.NewBatch(
        endpoint=parent.endpoint,
        input_file_id=file.public_id,
        completion_window=parent.completion_window,
        window=_window(parent),
        metadata=parent.metadata,
        output_expires_after=parent.output_expires_after,
        parent_id=parent.pk,
        retried_code=found.code,
    )


def _window(parent: Batch) -> timedelta:
    return parent.expires_at - parent.created_at
