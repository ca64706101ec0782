"""F9: how many files and bytes an account may keep, exact under concurrency.

An upload reserves its room before its bytes are taken, and turns the reservation into use once they are there. Each
step is one conditional UPDATE of the account's counters, so that of uploads that race for the last places as many
succeed as there are places. What is kept is `files` (not deleted) and `bytes` (whose row is still there).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import F, OuterRef, QuerySet, Subquery

from billing_app.models import Account, Reservation, StorageUse


class QuotaReached(Exception):
    """The argument says which limit, what is used, and what frees it."""


@contextmanager
def reserved(account: Account, size: int, *, now: datetime, idempotency_key: str = "") -> Iterator[Reservation]:
    """Room for one upload of at least `size` bytes; given back unless `use` took it. Raises QuotaReached."""
    reservation = _reserve(account, size, now, idempotency_key)
    try:
        yield reservation
    finally:
        give_back(reservation)


@transaction.atomic
def _reserve(account: Account, size: int, now: datetime, idempotency_key: str) -> Reservation:
    room = _use_of(account).filter(
        files__lt=_limit("max_files") - F("pending_files"), bytes__lte=_limit("max_bytes") - F("pending_bytes") - size
    )
    if not room.update(pending_files=F("pending_files") + 1, pending_bytes=F("pending_bytes") + size):
        raise _reached(account, size)
    return Reservation.objects.create(
        account=account,
        bytes=size,
        idempotency_key=idempotency_key,
        created_at=now,
        expires_at=now + timedelta(seconds=settings.RESERVATION_SECONDS),
    )


@transaction.atomic
def use(reservation: Reservation, size: int) -> None:
    """The upload is here, with so many bytes. In the transaction that makes it known. Raises QuotaReached."""
    give_back(reservation)  # first: what a refusal says is used is not to hold this upload's own room
    kept = _use_of(reservation.account).filter(files__lt=_limit("max_files"), bytes__lte=_limit("max_bytes") - size)
    if not kept.update(files=F("files") + 1, bytes=F("bytes") + size):
        raise _reached(reservation.account, size)


@transaction.atomic
def give_back(reservation: Reservation) -> bool:
    """False: it was used, or given back before."""
    if not Reservation.objects.filter(pk=reservation.pk).delete()[0]:
        return False
    _use_of(reservation.account).update(
        pending_files=F("pending_files") - 1, pending_bytes=F("pending_bytes") - reservation.bytes
    )
    return True


def give_back_expired(now: datetime) -> int:
    """What processes left behind that died in mid-upload."""
    expired = Reservation.objects.filter(expires_at__lte=now).select_related("account")
    return sum(give_back(reservation) for reservation in expired)


def keep(account: Account, *, files: int = 0, size: int = 0) -> None:
    """Counts what is kept whatever the limits say (results), or with minus signs what is kept no more."""
    _use_of(account).update(files=F("files") + files, bytes=F("bytes") + size)


def _use_of(account: Account) -> QuerySet[StorageUse]:
    rows = StorageUse.objects.filter(account=account)
    if not rows.exists():
        StorageUse.objects.bulk_create([StorageUse(account=account)], ignore_conflicts=True)
    return rows


def _limit(name: str) -> Subquery:
    """As it stands now: who calls may have read the account a moment ago."""
    return Subquery(Account.objects.filter(pk=OuterRef("account")).values(name))


def _reached(account: Account, size: int) -> QuotaReached:
    limits, use = Account.objects.get(pk=account.pk), StorageUse.objects.get(account=account)
    frees = "Deleting files frees it; the input of a running batch counts until the batch has ended."
    files, kept = use.files + use.pending_files, use.bytes + use.pending_bytes
    if files >= limits.max_files:
        return QuotaReached(f"The account may keep {limits.max_files:,} files, and {files:,} are in use. {frees}")
    return QuotaReached(
        f"The account may keep {limits.max_bytes:,} bytes, {kept:,} are in use, and this file has {size:,}. {frees}"
    )
