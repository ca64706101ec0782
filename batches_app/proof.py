"""The bill, proved: what the ledger says of a batch against the bytes of its output file (M4)."""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import BinaryIO, cast

import msgspec
from django.conf import settings
from django.db import transaction

from batches_app import results
from batches_app.models import Batch
from batches_app.states import ENDING, TERMINAL, Status
from billing_app import ledger
from billing_app.models import Hold, LedgerEntry
from billing_app.pricing import Tokens, charge, plain
from billing_app.proof import Discrepancy
from files_app import blobs, jsonl
from files_app.models import StoredFile


@dataclass(frozen=True, slots=True)
class Proof:
    """`verified`: by the output file's bytes; without, for want of the file, by the batch's own counters."""

    batch_id: str
    verified: bool
    billed: Tokens
    found: Tokens
    charged: Decimal
    due: Decimal
    flagged: int

    @property
    def agrees(self) -> bool:
        return self.billed == self.found and self.charged == self.due


class _Response(msgspec.Struct):
    body: msgspec.Raw


class _Line(msgspec.Struct):
    response: _Response


def prove_all() -> Iterator[Proof]:
    for batch in Batch.objects.select_related("price").order_by("pk").iterator():
        yield prove(batch) if batch.status in TERMINAL else _prove_running(batch.pk)
    known = Batch.objects.values("public_id")
    for batch_id in (
        LedgerEntry.objects.filter(kind="usage")
        .exclude(batch_id__in=known)
        .order_by()
        .values_list("batch_id", flat=True)
        .distinct()
    ):
        bill = ledger.bill(batch_id)
        yield Proof(batch_id, False, bill.tokens, Tokens(), bill.charged, Decimal(0), 0)


def _prove_running(pk: int) -> Proof:
    # Locked, as a checkpoint locks it, so that counters and ledger are seen at one moment.
    with transaction.atomic():
        return prove(Batch.objects.select_for_update(of=("self",)).select_related("price").get(pk=pk))


def prove_holds() -> Iterator[Discrepancy]:
    """Credit is reserved for batches under way and for no others."""
    under_way = Batch.objects.filter(status__in=[Status.IN_PROGRESS, *ENDING]).values("public_id")
    for hold in Hold.objects.filter(released_at=None).exclude(batch_id__in=under_way).select_related("account"):
        yield Discrepancy(hold.account.name, f"hold for {hold.batch_id}", plain(hold.left), "0")


def prove(batch: Batch) -> Proof:
    bill = ledger.bill(batch.public_id)
    output = StoredFile.objects.filter(public_id=batch.output_file_id).first() if batch.output_file_id else None
    found, flagged = batch.tokens, batch.flagged
    if output is not None:
        with blobs.read(output.blob) as file:
            found, flagged = _add_up(cast(BinaryIO, file))
    verified = output is not None or (batch.status in TERMINAL and not batch.output_file_id)
    if verified and output is None:
        found = Tokens()
    due = charge(found, batch.price.rates) if batch.price else Decimal(0)
    return Proof(batch.public_id, verified, bill.tokens, found, bill.charged, due, flagged)


def _add_up(file: BinaryIO) -> tuple[Tokens, int]:
    total, flagged = Tokens(), 0
    decode = msgspec.json.Decoder(_Line).decode
    # A result line holds a whole answer, and may be longer than any request line.
    for line in jsonl.read_lines(file, max_bytes=settings.MAX_ANSWER_BYTES * 2):
        tokens = results.read_usage(bytes(decode(line.raw).response.body))
        total += tokens or Tokens()
        flagged += tokens is None
    return total, flagged
