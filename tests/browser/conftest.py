"""Chromium, driven from outside of Django: no row is read or written in this process."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.browser.installation import Installation, running
from tests.browser.visitor import PROGRAMS, Visitor, launch, program


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/browser/" in item.nodeid:
            item.add_marker(pytest.mark.once)


@pytest.fixture(scope="session")
def chromium() -> str:
    if (found := program()) is None:
        pytest.skip(f"The console is not looked at: none of {', '.join(PROGRAMS)} is installed.")
    return found


@pytest.fixture(scope="session")
def installation(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with running(tmp_path_factory.mktemp("browser"), batches=300) as started:
        yield started


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    # Not for the whole session: while it is open, its event loop keeps Django's ORM from this process's other tests.
    with sync_playwright() as playwright, launch(playwright, chromium) as opened:
        yield opened


@pytest.fixture
def visit(browser: Browser, installation: Installation) -> Iterator[Visitor]:
    """No page makes the browser complain: no error of a script, nothing that the Content-Security-Policy refuses."""
    visitor = Visitor(browser, installation)
    yield visitor
    visitor.close()
    assert visitor.complaints == []
