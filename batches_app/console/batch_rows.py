"""What the list tells of each batch, in a few queries for all rows together."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db.models import Count, F, Func, IntegerField, QuerySet, Window
from django.db.models.fields.json import KT
from django.db.models.functions import RowNumber

from batches_app import progress
from batches_app.models import Batch, ErrorGroup
from batches_app.operations import CANCELLABLE
from batches_app.states import TERMINAL, Status
from billing_app.pricing import charge


@dataclass(frozen=True, slots=True)
class TopError:
    code: str
    count: int
    other_codes: int = 0
    is_of_input: bool = False  # found by validation: the code is that of the first of `count`


@dataclass(frozen=True, slots=True)
class Row:
    batch: Batch
    charged: Decimal
    error: TopError | None
    eta: datetime | None = None
    is_late: bool = False

    @property
    def is_final(self) -> bool:
        return self.batch.status in TERMINAL

    @property
    def is_cancellable(self) -> bool:
        return self.batch.status in CANCELLABLE

    @property
    def tokens(self) -> int:
        return self.batch.input_tokens + self.batch.output_tokens


class _Faults(Func):
    """How many errors validation has found."""

    output_field = IntegerField()

    def as_sqlite(self, *args: Any, **context: Any) -> Any:
        return self.as_sql(*args, **(context | {"template": "json_array_length(%(expressions)s)"}))

    def as_postgresql(self, *args: Any, **context: Any) -> Any:
        return self.as_sql(*args, **(context | {"template": "jsonb_array_length(%(expressions)s)"}))


def columns() -> QuerySet[Batch]:
    """What the list tells; not what tenants and validation wrote, which may be a thousand times the rest."""
    faults = {"first_fault": KT("errors__0__code"), "faults": _Faults(F("errors"))}
    return Batch.objects.select_related("account", "price").defer("errors", "metadata").annotate(**faults)


def told(batches: Sequence[Batch]) -> list[Row]:
    errors = _top_errors(batches)
    return [Row(batch, _charged(batch), errors.get(batch.pk)) for batch in batches]


def told_live(batches: Sequence[Batch], *, now: datetime) -> list[Row]:
    """Also when those that run will be done."""
    errors = _top_errors(batches)
    rates = _rates(batches, now)
    return [_live(batch, errors.get(batch.pk), rates.get(batch.pk, 0.0), now) for batch in batches]


def _live(batch: Batch, error: TopError | None, rate: float, now: datetime) -> Row:
    if batch.status in TERMINAL:
        return Row(batch, _charged(batch), error)
    eta = progress.eta(batch, rate, now=now)
    return Row(batch, _charged(batch), error, eta, is_late=progress.is_late(batch, eta, now=now))


def _rates(batches: Iterable[Batch], now: datetime) -> dict[int, float]:
    running = [batch.pk for batch in batches if batch.status == Status.IN_PROGRESS]
    return progress.rates(running, now=now) if running else {}


def _charged(batch: Batch) -> Decimal:
    return charge(batch.tokens, batch.price.rates) if batch.price else Decimal(0)


def _top_errors(batches: Iterable[Batch]) -> dict[int, TopError]:
    """Of requests that failed; of a batch that did not pass validation, what was found first."""
    faults = {
        batch.pk: TopError(batch.first_fault, batch.faults, is_of_input=True)  # type: ignore[attr-defined]  # columns
        for batch in batches
        if batch.first_fault  # type: ignore[attr-defined]
    }
    return faults | _top_groups([batch.pk for batch in batches if batch.pk not in faults])


def _top_groups(batch_ids: Sequence[int]) -> dict[int, TopError]:
    ranked = ErrorGroup.objects.filter(batch__in=batch_ids).annotate(
        rank=Window(RowNumber(), partition_by="batch", order_by=["-count", "code"]),
        codes=Window(Count("pk"), partition_by="batch"),
    )
    top = ranked.filter(rank=1).order_by().values_list("batch", "code", "count", "codes")
    return {batch: TopError(code, count, codes - 1) for batch, code, count, codes in top}
