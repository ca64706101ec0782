"""A batch's error lines, counted by code. Moved in the transaction that makes the lines known, so that at every
moment the groups together are the error lines that there are."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from batches_app import results
from batches_app.models import ErrorGroup

OTHER = "other"
MOST_GROUPS = 50


@dataclass(slots=True)
class Found:
    """Error lines of one code: how many, and the first of them."""

    count: int
    line: int
    text: bytes

    def add(self, line: int, text: bytes) -> None:
        self.count += 1
        if line < self.line:
            self.line, self.text = line, text


def found_in(errors: Iterable[tuple[int, bytes]]) -> dict[str, Found]:
    """By code; of error lines and their numbers."""
    found: dict[str, Found] = {}
    for line, text in errors:
        code, _ = results.error_of(text)
        if code in found:
            found[code].add(line, text)
        else:
            found[code] = Found(1, line, text)
    return found


def group_of(batch_codes: Collection[str], code: str) -> str:
    """Which group of a batch an error line of this code is in, for who counts it and for who looks for it later.
    `batch_codes`: those of the groups that the batch has."""
    has_room = len(batch_codes) < MOST_GROUPS - (OTHER not in batch_codes)
    return code if code in batch_codes or has_room else OTHER


def add(batch_id: int, found: Mapping[str, Found]) -> None:
    """In the caller's transaction, which holds the lock of the batch's row: two lanes would else count the same."""
    if not found:
        return
    groups = {group.code: group for group in ErrorGroup.objects.filter(batch=batch_id)}
    changed: dict[str, ErrorGroup] = {}
    for code, errors in sorted(found.items(), key=lambda pair: pair[1].line):
        name = group_of(groups, code)
        groups[name] = changed[name] = _grown(groups.get(name), batch_id, name, errors)
    ErrorGroup.objects.bulk_create(
        changed.values(),
        update_conflicts=True,
        unique_fields=["batch", "code"],
        update_fields=["count", "first_line", "custom_id", "message"],
    )


def _grown(group: ErrorGroup | None, batch_id: int, name: str, errors: Found) -> ErrorGroup:
    # A new object, without a key: the upsert goes by batch and code.
    grown = ErrorGroup(batch_id=batch_id, code=name, count=errors.count)
    if group is not None:
        grown.count += group.count
    if group is not None and group.first_line < errors.line:
        grown.first_line, grown.custom_id, grown.message = group.first_line, group.custom_id, group.message
    else:
        grown.first_line, grown.custom_id = errors.line, results.custom_id_of(errors.text)[:200]
        grown.message = results.error_of(errors.text)[1][:500]
    return grown
