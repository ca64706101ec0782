"""The time by which leases are given and taken: the database's, for the clocks of workers differ. One that is an hour
ahead would take what others hold, and where it dies, leave what it held for an hour."""

from datetime import datetime, timedelta

from django.db import connection
from django.utils import timezone

_ahead = timedelta()  # of this machine's clock, the database's


def agree() -> None:
    """At the beginning of each job. SQLite is on this machine, and has its clock."""
    global _ahead  # a process has one clock
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT clock_timestamp()")
            (there,) = cursor.fetchone()
        _ahead = there - timezone.now()


def now() -> datetime:
    return timezone.now() + _ahead
