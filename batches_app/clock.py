"""The time by which leases are given and taken: the database's, for the clocks of workers differ. One that is an hour
ahead would take what others hold, and where it dies, leave what it held for an hour."""

from datetime import datetime, timedelta
from functools import cache

from django.db import connection
from django.utils import timezone


def now() -> datetime:
    return timezone.now() + _ahead()


@cache  # of a process: RQ forks one for each job
def _ahead() -> timedelta:
    """Of this machine's clock, the database's. SQLite is on this machine, and has its clock."""
    if connection.vendor != "postgresql":
        return timedelta()
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        there: datetime = cursor.fetchone()[0]
    return there - timezone.now()
