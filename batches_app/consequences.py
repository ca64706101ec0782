"""What cancelling batches stops and what it bills, as they stand at this moment."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db.models import BooleanField, Count, Func, Sum

from batches_app.models import Batch, Lane
from batches_app.states import ALLOWED_FROM, Status
from billing_app.models import Price
from billing_app.pricing import Tokens, add, charge

TOKENS = ("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens")
LINES = ("total", "completed", "failed", "flagged")


@dataclass(slots=True)
class Consequences:
    """Of some batches; lines that are neither completed nor failed will not be run. A batch in validation has no
    lines yet that could be counted."""

    validating: int = 0
    in_progress: int = 0
    total: int = 0
    completed: int = 0
    failed: int = 0
    flagged: int = 0
    cost: Decimal = Decimal(0)

    @property
    def batches(self) -> int:
        return self.validating + self.in_progress

    @property
    def billed(self) -> int:
        return self.completed - self.flagged

    @property
    def unrun(self) -> int:
        return self.total - self.completed - self.failed

    def grow(self, other: "Consequences") -> None:
        self.cost = add([self.cost, other.cost])
        for name in ("validating", "in_progress", *LINES):
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass(slots=True)
class Summary:
    """`ended`: targets that have ended, or begun to, since they were chosen. `in_flight`: how many of the lines that
    are left may be at an upstream now, so that they still succeed and are billed."""

    whole: Consequences = field(default_factory=Consequences)
    by_account: dict[str, Consequences] = field(default_factory=dict)
    ended: int = 0
    in_flight: int = 0

    @property
    def unrun(self) -> int:
        return self.whole.unrun - self.in_flight

    @property
    def cost_in_flight(self) -> Decimal | None:
        """If they cost what those that have succeeded did on average. None: nothing has."""
        return self.whole.cost * self.in_flight / self.whole.completed if self.whole.completed else None


def of(targets: Sequence[int], *, now: datetime) -> Summary:
    summary = Summary()
    for account, found in _groups(targets):
        summary.whole.grow(found)
        summary.by_account.setdefault(account, Consequences()).grow(found)
    by_size = sorted(summary.by_account.items(), key=lambda item: (-item[1].batches, item[0]))
    summary.by_account = dict(by_size)
    summary.ended = len(targets) - summary.whole.batches
    summary.in_flight = min(summary.whole.unrun, _in_flight(targets, now))
    return summary


def _groups(targets: Sequence[int]) -> Iterator[tuple[str, Consequences]]:
    """By price, because what is charged grows with the tokens: one price times all its tokens is exact."""
    rows = list(_query(targets))
    rates = {price.pk: price.rates for price in Price.objects.filter(pk__in={row["price"] for row in rows})}
    for row in rows:
        found = Consequences()
        for name, number in (*((name, row[f"sum_{name}"]) for name in LINES), (row["status"], row["batches"])):
            setattr(found, name, int(number))
        if row["price"]:
            found.cost = charge(Tokens(*(int(row[f"sum_{name}"]) for name in TOKENS)), rates[row["price"]])
        yield row["account__name"], found


def _query(targets: Sequence[int]) -> Iterable[Any]:
    alive = Batch.objects.filter(Among(targets), status__in=sorted(ALLOWED_FROM[Status.CANCELLING]))
    sums = {f"sum_{name}": Sum(name) for name in (*LINES, *TOKENS)}
    return alive.order_by().values("account__name", "status", "price").annotate(batches=Count("pk"), **sums)


def _in_flight(targets: Sequence[int], now: datetime) -> int:
    """As their lanes said at the last flush: of all batches of the same models, and so the most that it can be."""
    models = Batch.objects.filter(Among(targets), status=Status.IN_PROGRESS).order_by().values("model")
    lanes = Lane.objects.filter(model__in=models, lease_expires_at__gt=now)
    return int(lanes.aggregate(sum=Sum("in_flight", default=0))["sum"])


class Among(Func):
    """Whether the row's key is one of many, given as one parameter: over `pk__in` of 50,000 Django takes seconds."""

    def __init__(self, keys: Sequence[int]) -> None:
        super().__init__("pk", output_field=BooleanField())
        self._keys = keys

    def as_sql(self, compiler: Any, connection: Any, *_: Any, **__: Any) -> tuple[str, tuple[Any, ...]]:
        column, params = compiler.compile(self.source_expressions[0])
        if connection.vendor == "postgresql":
            return f"{column} = ANY(%s)", (*params, list(self._keys))
        return f"{column} IN (SELECT value FROM json_each(%s))", (*params, json.dumps(list(self._keys)))  # nosec  # a column
