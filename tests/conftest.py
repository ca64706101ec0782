from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import connection
from django.test import TransactionTestCase
from hypothesis import settings
from structlog.contextvars import clear_contextvars

from billing_app import authentication, immutability, prices, rate_limits
from tests.fake_upstream import FakeUpstream
from tests.stack import Stack

settings.register_profile("untimed", deadline=None)  # how long an example takes depends on what else runs
settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def _nothing_remembered() -> None:
    """Ids come again after a rollback."""
    authentication.forget()
    prices.rates.cache_clear()
    rate_limits.forget()
    clear_contextvars()


@pytest.fixture(autouse=True, scope="session")
def _tests_may_empty_the_database() -> Iterator[None]:
    """Between two tests that commit, Django empties every table; the triggers of some would refuse it."""
    empty = TransactionTestCase._fixture_teardown  # type: ignore[attr-defined]  # private: there is no hook for it

    def teardown(self: TransactionTestCase) -> None:
        with connection.schema_editor() as editor:
            immutability.unprotect_all(None, editor)
        try:
            empty(self)
        finally:
            with connection.schema_editor() as editor:
                immutability.protect_all(None, editor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransactionTestCase, "_fixture_teardown", teardown)
        yield


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream() as running:
        yield running


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """Its tables take some seconds to make."""
    made = Stack(tmp_path_factory.mktemp("migrated"))
    made.run("migrate")
    return made


@pytest.fixture
def stack(tmp_path: Path, migrated: Stack) -> Iterator[Stack]:
    with Stack(tmp_path, migrated) as running:
        yield running


@pytest.fixture
def impatient(tmp_path: Path, migrated: Stack) -> Iterator[Stack]:
    """Who is dead is taken for dead within seconds."""
    with Stack(tmp_path, migrated, workers=2, DJANGO_SETTINGS_MODULE="tests.impatient") as running:
        yield running
