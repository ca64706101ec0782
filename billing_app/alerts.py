"""Tells who wants to know that a budget is used up to 50, 80 or 100 per cent. `spending` makes the alerts."""

import logging
from datetime import datetime, timedelta

from django.conf import settings
from django.core import mail
from django.db.models import Q

from billing_app.models import BudgetAlert
from billing_app.pricing import plain, round_money

log = logging.getLogger(__name__)

CLAIM = timedelta(minutes=2)  # longer than a run takes; one that failed is tried again after it
AT_ONCE = 20


def send_due(now: datetime) -> int:
    """An alert that cannot be mailed stays unsent, for a later run. Returns how many were sent."""
    sent = 0
    free = Q(claimed_until=None) | Q(claimed_until__lt=now)
    unsent = BudgetAlert.objects.filter(free, sent_at=None).select_related("account").order_by("created_at", "pk")
    for alert in unsent[:AT_ONCE]:
        # Claimed for a while, and not locked: SQLite's one writer must not wait for a mail server.
        mine = BudgetAlert.objects.filter(free, pk=alert.pk, sent_at=None).update(claimed_until=now + CLAIM)
        if not mine:
            continue
        try:
            _tell(alert)
        except Exception:
            log.exception("The alert that %s could not be mailed. It will be tried again.", _subject(alert))
            break  # nor might the others, and the reconciler has more to do than to wait for a mail server
        BudgetAlert.objects.filter(pk=alert.pk).update(sent_at=now)
        sent += 1
    return sent


def _tell(alert: BudgetAlert) -> None:
    if alert.account.alert_email:
        mail.EmailMessage(_subject(alert), _body(alert), to=[alert.account.alert_email]).send()
    log.warning("%s.", _subject(alert))


def _subject(alert: BudgetAlert) -> str:
    # One line: a line break in a name would be a header of its own.
    return " ".join(f"Account {alert.account} has used {alert.percent} % of its budget for {alert.month}".split())


def _body(alert: BudgetAlert) -> str:
    return (
        f"{_subject(alert)}.\n\n"
        f"Spent:  {round_money(alert.spent)} {settings.CURRENCY}\n"
        f"Budget: {plain(alert.budget)} {settings.CURRENCY}\n\n"
        f"{_consequence(alert)}\n"
    )


def _consequence(alert: BudgetAlert) -> str:
    if not alert.account.budget_is_hard:
        return "Batches go on, and new ones are accepted: the account does not stop at its budget."
    if alert.percent < 100:
        return "At 100 % new batches will be refused until the next month; running ones go on."
    return "New batches are refused until the next month, or until the budget is raised; running ones go on."
