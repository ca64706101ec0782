"""How a batch gets on, in numbers."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from batches_app import progress
from batches_app.models import Batch
from batches_app.progress import Speed
from batches_app.states import Status
from billing_app.pricing import charge


@dataclass(frozen=True, slots=True)
class Pace:
    """`left`: lines that will be run; `unrun`: of a batch that was stopped, those that will not. `cost_in_all`: what it
    will have cost, as its lines so far suggest."""

    speed: Speed
    eta: datetime | None
    is_late: bool
    left: int
    unrun: int
    cost: Decimal
    cost_in_all: Decimal | None


def of(batch: Batch, now: datetime) -> Pace:
    is_running = batch.status == Status.IN_PROGRESS
    speed = progress.speed(batch, now=now) if is_running else Speed()
    cost = charge(batch.tokens, batch.price.rates) if batch.price else Decimal(0)
    eta = progress.eta(batch, speed.lines_per_second, now=now)
    done = batch.completed + batch.failed
    left = batch.total - done
    goes_on = batch.status in (Status.VALIDATING, Status.IN_PROGRESS)
    return Pace(
        speed=speed,
        eta=eta,
        is_late=progress.is_late(batch, eta, now=now),
        left=left if goes_on else 0,
        unrun=0 if goes_on else left,
        cost=cost,
        cost_in_all=cost * batch.total / done if is_running and done else None,
    )
