"""Each page and each of its states, light and dark, in both languages, on a desk and on a phone."""

import re
from collections.abc import Iterator
from http import HTTPStatus
from itertools import product
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.urls import resolve
from playwright.sync_api import Browser, Locator, Page, expect

from tests import routes
from tests.browser.installation import MODEL, Installation, new
from tests.browser.places import FIRST_PLACES, PLACES, Place, places
from tests.browser.test_batches import SECONDS, named
from tests.browser.visitor import Visitor, show_all
from tests.stack import wait_for

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
OPTIONS = {"resultTypes": ["violations"], "runOnly": {"type": "tag", "values": RULES}}
SERIOUS = ("serious", "critical")
WIDTHS = (1280, 360)
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
PLACEHOLDER = re.compile(r"{\w+}")


@pytest.fixture(scope="module")
def known(installation: Installation) -> dict[str, Place]:
    return places(installation)


@pytest.fixture(scope="module")
def new_installation(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with new(tmp_path_factory.mktemp("new") / "data") as started:
        yield started


@pytest.mark.parametrize("language", ["en", "zh-CN"])
@pytest.mark.parametrize("name", PLACES)
def test_axe_finds_nothing_serious_and_nothing_overflows(
    visit: Visitor, known: dict[str, Place], name: str, language: str
) -> None:
    assert_fit(known[name].seen_by(visit, language=language))


@pytest.mark.parametrize("language", ["en", "zh-CN"])
@pytest.mark.parametrize("name", FIRST_PLACES)
def test_nor_where_nothing_has_happened_yet(
    browser: Browser, new_installation: Installation, name: str, language: str
) -> None:
    visitor = Visitor(browser, new_installation)
    assert_fit(FIRST_PLACES[name].seen_by(visitor, language=language))
    visitor.close()
    assert visitor.complaints == []


def assert_fit(page: Page) -> None:
    found = []
    for width, scheme in product(WIDTHS, ("light", "dark")):
        show_all(page, width, 900)
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
    paths = [place.path.split("?")[0] for place in PLACES.values() if place.status == HTTPStatus.OK]
    shown = {resolve(f"/console/{PLACEHOLDER.sub('1', path)}").url_name for path in paths}
    assert {route.name for route in routes.pages()} | {"login"} == shown


# By the keyboard alone

# What has the focus: its name, where it can be seen; null at the end of the page.
FOCUSED = """() => {
  const element = document.activeElement;
  if (element === document.body) return null;
  const [box] = element.getClientRects();
  const middle = (from, to, most) => (Math.max(from, 0) + Math.min(to, most)) / 2;
  const shown = box && document.elementFromPoint(
    middle(box.left, box.right, innerWidth), middle(box.top, box.bottom, innerHeight));
  return [element.outerHTML.slice(0, 200), box?.width > 1 && box.height > 1 && element.contains(shown)];
}"""
MOST_STEPS = 2_000
USUAL = (
    "overview",
    "batch",
    "lines",
    "operations",
    "files",
    "accounts",
    "account",
    "models",
    "usage",
    "workers",
    "audit",
)


@pytest.mark.parametrize(
    "name", [*USUAL, "batches", "batches searched", "batches selected", "batches filters", "operation to cancel"]
)
def test_what_has_the_focus_is_seen_on_a_phone(visit: Visitor, known: dict[str, Place], name: str) -> None:
    page = known[name].seen_by(visit, width=360, height=740)
    unseen = []
    for _ in range(MOST_STEPS):
        page.keyboard.press("Tab")
        if (focused := page.evaluate(FOCUSED)) is None:
            break
        element, is_seen = focused
        if not is_seen:
            unseen.append(element)
    else:
        pytest.fail("The focus does not come to the end of the page.")
    assert not unseen, "\n".join(unseen)


@pytest.mark.parametrize("name", ["overview", "files", "workers", "audit"])
def test_the_menu_of_a_phone_shows_the_page_that_one_is_on(visit: Visitor, known: dict[str, Place], name: str) -> None:
    page = known[name].seen_by(visit, width=360, height=740)
    box = page.locator(".side [aria-current]").bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 360


def go(page: Page, target: Locator) -> None:
    """By Tab, from where the focus is."""
    for _ in range(MOST_STEPS):
        page.keyboard.press("Tab")
        if target.evaluate("element => element === document.activeElement"):
            return
    pytest.fail(f"Tab does not lead to {target}.")


def test_by_the_keyboard_alone_a_batch_is_selected_and_cancelled(visit: Visitor, installation: Installation) -> None:
    upstream, client = installation.upstream.control, installation.client
    upstream.set(latency_ms=60_000)
    batch = wait_for(client, named(client, "by keys", 5), "in_progress")
    page = visit("/console/batches", role="operator")
    page.keyboard.press("/")
    page.keyboard.type("by keys")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("q=by"))
    go(page, page.get_by_role("checkbox", name=f"Select {batch.id}"))
    page.keyboard.press("Space")
    go(page, page.get_by_role("button", name="Cancel the selected…"))
    page.keyboard.press("Enter")
    go(page, page.get_by_label("Why"))
    page.keyboard.type("no mouse at hand")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Cancel 1 batch")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_contain_text("1 batch was cancelled.")
    expect(page.locator("main")).to_contain_text("no mouse at hand")
    assert wait_for(client, batch, "cancelled").status == "cancelled"
    upstream.reset()


def test_by_the_keyboard_alone_failed_lines_run_again(visit: Visitor, installation: Installation) -> None:
    upstream, client = installation.upstream.control, installation.client
    upstream.set(match="cid:[0-1] ", status=400)
    batch = wait_for(client, named(client, "again by keys", 4))
    upstream.reset()
    page = visit(f"/console/batches/{batch.id}", role="operator")
    go(page, page.get_by_role("button", name="Retry 2 failed lines…"))
    page.keyboard.press("Enter")
    go(page, page.get_by_label("Why"))
    page.keyboard.type("no mouse at hand")
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_contain_text("2 lines run again", timeout=SECONDS)


def test_by_the_keyboard_alone_a_model_is_paused_and_resumed(visit: Visitor) -> None:
    page = visit("/console/models", role="operator")
    model = page.get_by_role("article", name=MODEL, exact=True)
    go(page, model.locator("summary", has_text="Pause"))
    page.keyboard.press("Space")
    go(page, model.get_by_label("Why"))
    page.keyboard.type("no mouse at hand")
    page.keyboard.press("Enter")
    expect(model).to_contain_text("no mouse at hand")
    go(page, model.get_by_role("button", name="Resume"))
    page.keyboard.press("Enter")
    expect(model.locator("summary", has_text="Pause")).to_be_visible()
    expect(model).not_to_contain_text("no mouse at hand")


def test_by_the_keyboard_alone_an_operation_is_opened_and_aborted(visit: Visitor, known: dict[str, Place]) -> None:
    page = visit("/console/operations", role="operator")
    address = f"/console/{known['operation running'].path}"
    go(page, page.locator(f'main a[href="{address}"]'))
    page.keyboard.press("Enter")
    page.wait_for_url(f"**{address}")
    go(page, page.get_by_role("button", name="Abort"))
    page.keyboard.press("Space")
    expect(page.locator("main")).to_contain_text("before the operation was aborted, and stay")
    expect(page.get_by_role("button", name="Abort")).to_have_count(0)
