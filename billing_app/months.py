"""Months as the ledger counts them, `2026-11`, in the installation's TIME_ZONE."""

import re
from datetime import date, datetime, time

from django.utils import timezone

from billing_app.models import Balance


def of(balance: Balance, moment: datetime) -> str:
    """The month that an entry belongs to which is booked now: never one that is closed."""
    current = containing(moment)
    return max(current, after(balance.closed_through)) if balance.closed_through else current


def containing(moment: datetime) -> str:
    return f"{timezone.localtime(moment, timezone.get_default_timezone()):%Y-%m}"


def beginning(month: str) -> datetime:
    return datetime.combine(_first_day(month), time(), timezone.get_default_timezone())


def after(month: str) -> str:
    start = _first_day(month)
    return f"{start.year + start.month // 12:04d}-{start.month % 12 + 1:02d}"


def before(month: str) -> str:
    start = _first_day(month)
    return f"{start.year - (start.month == 1):04d}-{(start.month - 2) % 12 + 1:02d}"


def is_month(text: str) -> bool:
    return re.fullmatch(r"[1-9][0-9]{3}-(0[1-9]|1[0-2])", text) is not None


def _first_day(month: str) -> date:
    return date.fromisoformat(f"{month}-01")
