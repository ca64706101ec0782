"""Quotas, proved: the counters of what an account keeps against its files (F9)."""

from collections.abc import Iterator

from django.db import transaction
from django.db.models import Count, Q, Sum

from billing_app.models import StorageUse
from billing_app.proof import Discrepancy
from files_app.models import StoredFile


def prove_storage() -> Iterator[Discrepancy]:
    for account_id in StorageUse.objects.values_list("account", flat=True):
        # Locked, as everything that changes a file's row does in the same transaction.
        with transaction.atomic():
            use = StorageUse.objects.select_for_update(of=("self",)).select_related("account").get(account=account_id)
            files = StoredFile.objects.filter(account=account_id)
            due = files.aggregate(files=Count("pk", filter=Q(deleted_at=None)), bytes=Sum("bytes", default=0))
        for what, kept in (("files", use.files), ("bytes", use.bytes)):
            if kept != due[what]:
                yield Discrepancy(use.account.name, f"{what} kept", str(kept), str(due[what]))
