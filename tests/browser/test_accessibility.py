"""Each page, light and dark, in both languages, on a desk and on a phone."""

import re
from itertools import product
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.urls import resolve
from playwright.sync_api import Page

from tests import routes
from tests.browser.installation import Installation
from tests.browser.places import ADDRESSES, PUBLIC, addresses
from tests.browser.visitor import Visitor

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
OPTIONS = {"resultTypes": ["violations"], "runOnly": {"type": "tag", "values": RULES}}
SERIOUS = ("serious", "critical")
WIDTHS = (1280, 360)
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
PLACEHOLDER = re.compile(r"{\w+}")


@pytest.fixture(scope="module")
def known(installation: Installation) -> dict[str, str]:
    return addresses(installation)


@pytest.mark.parametrize("language", ["en", "zh-CN"])
@pytest.mark.parametrize("name", [*ADDRESSES, *PUBLIC])
def test_axe_finds_nothing_serious_and_nothing_overflows(
    visit: Visitor, known: dict[str, str], name: str, language: str
) -> None:
    page = visit(known[name], language=language, role="" if name in PUBLIC else "administrator")
    found = []
    for width, scheme in product(WIDTHS, ("light", "dark")):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        found += [f"{width} {scheme}: {violation}" for violation in violations(page)]
        if beyond := page.evaluate(OVERFLOW):
            found.append(f"{width} {scheme}: {beyond} px wider than the window")
    assert not found, "\n".join(found)


def violations(page: Page) -> list[str]:
    results: list[dict[str, Any]] = Axe().run(page, options=OPTIONS).response["violations"]
    return [
        f"{violation['id']}: {node['target']} {' '.join(node['failureSummary'].split())[:200]}"
        for violation in results
        if violation["impact"] in SERIOUS
        for node in violation["nodes"]
    ]


def test_no_page_is_left_out() -> None:
    paths = [path.split("?")[0] for path in (ADDRESSES | PUBLIC).values()]
    shown = {resolve(f"/console/{PLACEHOLDER.sub('1', path)}").url_name for path in paths}
    assert {route.name for route in routes.pages()} | {*PUBLIC} == shown
