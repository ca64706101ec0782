"""Quotas, proved: the counters of what an account keeps against its files, and of what its uploads under way have
reserved against the reservations (F9)."""

from collections.abc import Iterator, Mapping

from django.db import transaction
from django.db.models import Count, Q, Sum

from billing_app.models import Reservation, StorageUse
from billing_app.proof import Discrepancy
from files_app.models import StoredFile


def prove_storage() -> Iterator[Discrepancy]:
    for account_id in StorageUse.objects.values_list("account", flat=True):
        # Locked, as everything that changes a file's row does in the same transaction.
        with transaction.atomic():
            use = StorageUse.objects.select_for_update(of=("self",)).select_related("account").get(account=account_id)
            files = StoredFile.objects.filter(account=account_id)
            due = files.aggregate(files=Count("pk", filter=Q(deleted_at=None)), bytes=Sum("bytes", default=0))
            pending = Reservation.objects.filter(account=account_id)
            held = pending.aggregate(files=Count("pk"), bytes=Sum("bytes", default=0))
        yield from _compared(use, "kept", due, files=use.files, bytes=use.bytes)
        yield from _compared(use, "reserved", held, files=use.pending_files, bytes=use.pending_bytes)


def _compared(use: StorageUse, how: str, due: Mapping[str, int], **counted: int) -> Iterator[Discrepancy]:
    for what, count in counted.items():
        if count != due[what]:
            yield Discrepancy(use.account.name, f"{what} {how}", str(count), str(due[what]))
