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
    until = now + timedelta(seconds=settings.RESERVATION_SECONDS)
    reservation = reserve(account, size, now=now, until=until, idempotency_key=idempotency_key)
    try:
        yield reservation
    finally:
        give_back(reservation)


@transaction.atomic
def reserve(account: Account, size: int, *, now: datetime, until: datetime, idempotency_key: str = "") -> Reservation:
    """The same beyond the request (F10): for who keeps it, to `use` it or to `give_back`. Raises QuotaReached."""
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
        expires_at=until,
    )


@transaction.atomic
def widen(reservation: Reservation, size: int) -> bool:
    """Room for `size` bytes in all, if it has less. False: it was given back before. Raises QuotaReached."""
    held = _locked(reservation)
    if held is None:
        return False
    more = max(0, size - held.bytes)
    room = _use_of(held.account).filter(bytes__lte=_limit("max_bytes") - F("pending_bytes") - more)
    if more and not room.update(pending_bytes=F("pending_bytes") + more):
        raise _reached(held.account, more)
    held.bytes += more
    held.save(update_fields=["bytes"])
    return True


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
    held = _locked(reservation)
    if held is None:
        return False
    held.delete()
    _use_of(reservation.account).update(
        pending_files=F("pending_files") - 1, pending_bytes=F("pending_bytes") - held.bytes
    )
    return True


def give_back_expired(now: datetime) -> int:
    """What processes left behind that died in mid-upload."""
    expired = Reservation.objects.filter(expires_at__lte=now).select_related("account")
    return sum(give_back(reservation) for reservation in expired)


def keep(account: Account, *, files: int = 0, size: int = 0) -> None:
    """Counts what is kept whatever the limits say (results), or with minus signs what is kept no more."""
    _use_of(account).update(files=F("files") + files, bytes=F("bytes") + size)


def _locked(reservation: Reservation) -> Reservation | None:
    """As it stands now: it may have been widened, or be gone."""
    return Reservation.objects.select_for_update().filter(pk=reservation.pk).first()


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
        f"The account may keep {limits.max_bytes:,} bytes, {kept:,} are in use, and this needs {size:,} more. {frees}"
    )
