from collections.abc import Iterator
from datetime import datetime, timedelta
from types import ModuleType, SimpleNamespace

import pytest
from django.db import connection
from django.utils import timezone

from batches_app import (
    clock,
    execution,
    finalization,
    flushing,
    jobs,
    operation_lease,
    operations,
    probing,
    running,
    validation,
)


@pytest.fixture
def an_hour_ahead(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def wrong() -> datetime:
        return timezone.now() + timedelta(hours=1)

    monkeypatch.setattr(clock, "timezone", SimpleNamespace(now=wrong))
    clock._ahead.cache_clear()
    yield
    clock._ahead.cache_clear()


@pytest.mark.django_db
@pytest.mark.usefixtures("an_hour_ahead")
def test_a_clock_that_is_an_hour_off_is_set_by_the_database_s() -> None:
    right = connection.vendor == "postgresql"  # SQLite has this machine's clock
    assert (abs(clock.now() - timezone.now()) < timedelta(minutes=1)) is right


@pytest.mark.parametrize(
    "module", [execution, finalization, flushing, jobs, operation_lease, operations, probing, running, validation]
)
def test_who_gives_or_takes_leases_looks_at_no_other(module: ModuleType) -> None:
    assert module.clock is clock
    assert not hasattr(module, "timezone")
