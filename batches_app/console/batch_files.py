"""The files of a batch, those that are gone included."""

from dataclasses import dataclass

from batches_app.models import Batch
from files_app.models import StoredFile

INPUT, OUTPUT, ERROR = "input", "output", "error"


@dataclass(frozen=True, slots=True)
class Kept:
    """`file`: None where the row is gone too."""

    kind: str
    public_id: str
    file: StoredFile | None

    @property
    def is_there(self) -> bool:
        return self.file is not None and self.file.deleted_at is None


def of(batch: Batch) -> list[Kept]:
    """A query only where there is more than the input, which came with the batch."""
    ids = {INPUT: batch.input_file_id, OUTPUT: batch.output_file_id, ERROR: batch.error_file_id}
    named = {kind: public_id for kind, public_id in ids.items() if public_id}
    known = {batch.source.public_id: batch.source} if batch.source else {}
    if missing := set(named.values()) - set(known):
        rows = StoredFile.objects.filter(public_id__in=missing, account=batch.account_id)
        known |= {row.public_id: row for row in rows}
    return [Kept(kind, public_id, known.get(public_id)) for kind, public_id in named.items()]
