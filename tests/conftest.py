from collections.abc import Iterator
from pathlib import Path

import pytest

from billing_app import authentication
from tests.fake_upstream import FakeUpstream
from tests.stack import Stack


@pytest.fixture(autouse=True)
def _no_remembered_keys() -> None:
    authentication.forget()


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream() as running:
        yield running


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    with Stack(tmp_path) as running:
        yield running
