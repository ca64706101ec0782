"""Months are closed some minutes after they ended: what is booked later is on the next month's statement."""

import logging
from datetime import datetime, timedelta
from decimal import Decimal

from django.conf import settings
from django.db import transaction
from django.db.models import Q

from billing_app import ledger, months, totals
from billing_app.models import Account, Balance, ClosedMonth
from billing_app.pricing import add

log = logging.getLogger(__name__)


def close_due(now: datetime) -> int:
    """Returns how many accounts' months were closed."""
    last = months.before(months.containing(now - timedelta(seconds=settings.MONTH_CLOSING_DELAY)))
    behind = Q(balance=None) | Q(balance__closed_through__lt=last)
    due = Account.objects.filter(behind, created_at__lt=months.beginning(months.after(last)))
    closed = 0
    for account_id in list(due.values_list("pk", flat=True)):
        try:
            _close(account_id, last, now)
            closed += 1
        except Exception:  # one account's books do not keep the others' months open
            log.exception("The months of account %d could not be closed.", account_id)
    return closed


@transaction.atomic
def _close(account_id: int, last: str, now: datetime) -> None:
    """Under the lock that every entry takes: none gets into a month that is being closed."""
    balance = ledger.lock(account_id)
    closed = balance.closed_through
    month = months.after(closed) if closed else totals.first_month(balance.account)
    if month > last:
        return  # somebody else was faster
    opening, moved = totals.balance_before(account_id, month), totals.movements(account_id, after=closed)
    while month <= last:
        closing = add([opening, moved.get(month, Decimal(0))])
        ClosedMonth.objects.create(account_id=account_id, month=month, opening=opening, closing=closing, closed_at=now)
        opening, month = closing, months.after(month)
    Balance.objects.filter(pk=balance.pk).update(closed_through=last)
