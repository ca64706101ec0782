"""Whether an account may have one more batch, and whether a batch that is valid may run: active batches, money,
enqueued tokens (V12). The rest, what is in the file, is for `inspection`."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from django.conf import settings
from django.db.models import QuerySet, Sum

from batches_app.inspection import Inspection
from batches_app.models import Batch
from batches_app.models.routing import TEST_ENDPOINT
from batches_app.request_lines import Violation
from batches_app.states import TERMINAL
from billing_app import ledger, spending
from billing_app.models import Account, APIKey, Balance, EnqueuedTokenLimit, Price
from billing_app.pricing import Tokens, most_charge, plain

BYTES_PER_TOKEN = 4  # an estimate, for what is enqueued (V12)


class TooManyBatches(Exception):
    """The account's limit of active batches is reached. The argument says so."""


class OutOfFunds(Exception):
    """Credit, budget or the key's limit is used up. The argument says which."""


class NotAdmitted(Exception):
    """The valid batch may not run. The argument is the Violation to fail it with."""

    def __init__(self, violation: Violation) -> None:
        super().__init__(violation.message)
        self.violation = violation


@dataclass(frozen=True, slots=True)
class Need:
    """What a batch is expected to use (`likely`, from its bytes) and at most (`most`)."""

    likely: Tokens
    most: Tokens

    @property
    def enqueued(self) -> int:
        return self.likely.input


def need(found: Inspection) -> Need:
    return Need(
        likely=Tokens(found.body_bytes // BYTES_PER_TOKEN, 0, found.output_tokens),
        most=Tokens(-(-found.body_bytes // settings.HOLD_BYTES_PER_TOKEN), 0, found.output_tokens),
    )


def check_new(account: Account, key: APIKey | None, endpoint: str, *, now: datetime) -> None:
    """Before a batch is created, in its transaction. Raises TooManyBatches, OutOfFunds."""
    if (limit := account.max_active_batches) is not None:
        # Locked, so that of two batches which race for the last place the second sees the first.
        Account.objects.select_for_update(no_key=True).get(pk=account.pk)
        if (active := _alive(account).count()) >= limit:
            raise TooManyBatches(
                f"The account may have {limit:,} active batches, and {active:,} are active. "
                "Wait for one to finish, or cancel one."
            )
    if endpoint != TEST_ENDPOINT and (refusal := spending.refusal(account, key, now=now)):
        raise OutOfFunds(refusal)


def check_enqueued(account: Account, model_name: str, needed: Need) -> None:
    """V12, in the transaction that sets the batch going, before its own tokens count. Raises NotAdmitted."""
    # Locked, so that of two batches which fit only one by one the second sees the first.
    limits = EnqueuedTokenLimit.objects.select_for_update().filter(account=account, model_name=model_name)
    limit = limits.first()
    if limit is None:
        return
    enqueued = enqueued_tokens(account, model_name)
    if enqueued + needed.enqueued <= limit.tokens:
        return
    message = (
        f"Enqueued token limit reached for {model_name}: the limit is {limit.tokens:,} tokens, "
        f"{enqueued:,} are enqueued and this batch has about {needed.enqueued:,}. "
        "Please try again once some of the batches in progress are finished."
    )
    raise NotAdmitted(Violation("token_limit_exceeded", message, None, None))


def hold(batch: Batch, price: Price, needed: Need, *, now: datetime) -> None:
    """Reserves what the batch may cost at most, in the transaction that sets it going. Raises NotAdmitted."""
    amount = most_charge(needed.most, price.rates)
    try:
        if amount:
            ledger.place_hold(batch.account_id, batch.public_id, amount, now=now)
    except ledger.NotCovered as error:
        raise NotAdmitted(_not_covered(amount, error.available)) from None


def objections(account: Account, price: Price, needed: Need) -> Iterator[Violation]:
    """Why `check_enqueued` and `hold` would say no at this moment. Nothing is reserved."""
    try:
        check_enqueued(account, price.model_name, needed)
    except NotAdmitted as error:
        yield error.violation
    balance = Balance.objects.filter(account=account, is_prepaid=True).first()
    amount = most_charge(needed.most, price.rates)
    if balance is not None and balance.available < amount:
        yield _not_covered(amount, balance.available)


def enqueued_tokens(account: Account, model_name: str) -> int:
    enqueued = _alive(account).filter(model_name=model_name)
    return int(enqueued.aggregate(tokens=Sum("enqueued_tokens", default=0))["tokens"])


def _alive(account: Account) -> QuerySet[Batch]:
    return Batch.objects.filter(account=account).exclude(status__in=list(TERMINAL))


def _not_covered(amount: Decimal, available: Decimal) -> Violation:
    message = (
        f"This batch may cost up to {plain(amount)} {settings.CURRENCY}, and {plain(available)} of the account's "
        "credit are available. Top it up, lower max_tokens, or send fewer requests."
    )
    return Violation("insufficient_quota", message, None, None)
