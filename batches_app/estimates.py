"""What a batch would cost, and what would stand in its way. Nothing is created or reserved."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Sum

from batches_app import admission
from batches_app.inspection import Inspection, inspect
from batches_app.request_lines import Violation
from billing_app import prices
from billing_app.models import Account, APIKey, LedgerEntry, Price
from billing_app.pricing import Tokens
from files_app.models import StoredFile

HISTORY = timedelta(days=90)


@dataclass(frozen=True, slots=True)
class Estimate:
    """`likely` and `most` tokens with their `price`: None of each where the file has violations.

    `from_history`: `likely` has the output that the account's own requests to the model had of late; without such,
    it is what the requests ask for at most. `obstacles`: why a batch would be refused or fail at this moment.
    """

    found: Inspection
    likely: Tokens | None = None
    most: Tokens | None = None
    price: Price | None = None
    from_history: bool = False
    obstacles: list[Violation] = field(default_factory=list)


def estimate(account: Account, key: APIKey, file: StoredFile, endpoint: str, *, now: datetime) -> Estimate:
    found = inspect(file, endpoint, at=now)
    price = prices.current(found.model_name, at=now) if found.model_name else None
    if found.violations or price is None:
        return Estimate(found, obstacles=_refusal(account, key, endpoint, now))
    needed = admission.need(found)
    expected = _expected_output(account, found, now)
    with transaction.atomic():
        objections = list(admission.objections(account, price, needed))
    return Estimate(
        found,
        likely=needed.likely if expected is None else Tokens(needed.likely.input, 0, expected),
        most=needed.most,
        price=price,
        from_history=expected is not None,
        obstacles=[*_refusal(account, key, endpoint, now), *objections],
    )


def _refusal(account: Account, key: APIKey, endpoint: str, now: datetime) -> list[Violation]:
    """What creating the batch would be answered with."""
    try:
        with transaction.atomic():
            admission.check_new(account, key, endpoint, now=now)
    except admission.TooManyBatches as error:
        return [Violation("quota_exceeded", str(error), None, None)]
    except admission.OutOfFunds as error:
        return [Violation("insufficient_quota", str(error), None, None)]
    return []


def _expected_output(account: Account, found: Inspection, now: datetime) -> int | None:
    """From the account's own answers, for another's are none of its business (promise 3)."""
    used = LedgerEntry.objects.filter(account=account, created_at__gte=now - HISTORY, model_name=found.model_name)
    sums = used.aggregate(requests=Sum("requests", default=0), tokens=Sum("output_tokens", default=0))
    if not sums["requests"]:
        return None
    return min(found.output_tokens, int(sums["tokens"]) * found.requests // int(sums["requests"]))
