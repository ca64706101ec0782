from datetime import datetime, timedelta
from types import SimpleNamespace

import pytest
from django.db import connection
from django.utils import timezone

from batches_app import clock


@pytest.mark.django_db
def test_a_clock_that_is_an_hour_off_is_set_by_the_database_s(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong() -> datetime:
        return timezone.now() + timedelta(hours=1)

    monkeypatch.setattr(clock, "timezone", SimpleNamespace(now=wrong))
    monkeypatch.setattr(clock, "_ahead", timedelta())
    assert clock.now() - timezone.now() > timedelta(minutes=59)
    clock.agree()
    right = connection.vendor == "postgresql"  # SQLite has this machine's clock
    assert (abs(clock.now() - timezone.now()) < timedelta(minutes=1)) is right
