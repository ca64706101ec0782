"""What a live page does by itself, and what it leaves alone, in a real browser on a real installation."""

import re
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.installation import Installation
from tests.browser.test_batches import SECONDS, named, rows
from tests.browser.visitor import Visitor
from tests.stack import wait_for


def is_poll(request: Any) -> bool:
    return "hx-request" in request.headers


@pytest.fixture
def live(visit: Visitor, installation: Installation) -> Any:
    """A list that is live for as long as the test lasts, with many rows."""
    upstream = installation.upstream.control
    upstream.reset()
    upstream.set(latency_ms=60_000)
    client = installation.client
    batch = wait_for(client, named(client, "never ends", 3), "in_progress")
    yield visit("/console/batches", role="operator"), batch
    upstream.reset()
    client.batches.cancel(batch.id)


def poll(page: Page) -> None:
    """Until the page has asked once for its live part, and has put it in."""
    with page.expect_response(lambda answer: is_poll(answer.request), timeout=SECONDS):
        pass
    page.wait_for_load_state("networkidle")


def polls_within(page: Page, milliseconds: int) -> int:
    asked: list[Any] = []
    page.on("request", lambda request: asked.append(request) if is_poll(request) else None)
    page.wait_for_timeout(milliseconds)
    return len(asked)


def test_a_live_list_waits_while_rows_are_selected(live: tuple[Page, Any]) -> None:
    page, batch = live
    poll(page)
    box = page.get_by_role("checkbox", name=f"Select {batch.id}")
    box.check()
    assert polls_within(page, 6_000) == 0
    expect(box).to_be_checked()
    box.uncheck()
    poll(page)


def test_a_live_list_waits_while_somebody_types(live: tuple[Page, Any]) -> None:
    page, _ = live
    poll(page)
    page.get_by_role("searchbox", name="Id of a batch or file").press_sequentially("bat")
    assert polls_within(page, 6_000) == 0


# Timers are noted, and none takes longer than a moment.
HURRY = """
window.waits = [];
const later = window.setTimeout;
window.setTimeout = (what, wait, ...rest) => {
  window.waits.push(wait);
  return later(what, Math.min(wait, 50), ...rest);
};
"""


def test_a_live_part_in_which_nothing_changes_is_asked_for_ever_less_often(visit: Visitor, live: Any) -> None:
    _, batch = live
    page = visit()
    page.add_init_script(HURRY)
    page.goto(f"/console/batches/{batch.id}")
    planned = "waits.filter((wait) => wait >= 2000)"
    for _ in range(300):
        waits = page.evaluate(planned)
        if 15_000 in waits:
            break
        page.wait_for_timeout(100)
    quiet = waits[len(waits) - waits[::-1].index(2_000) - 1 :]
    assert quiet[:6] == [2_000, 3_000, 4_500, 6_750, 10_125, 15_000]


def test_a_live_part_waits_while_its_tab_is_hidden(live: tuple[Page, Any]) -> None:
    page, _ = live
    poll(page)
    page.evaluate("Object.defineProperty(document, 'hidden', {configurable: true, get: () => true})")
    assert polls_within(page, 6_000) == 0
    page.evaluate("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
    poll(page)


def test_an_answer_that_comes_late_does_not_undo_a_selection(live: tuple[Page, Any]) -> None:
    page, batch = live
    held: list[Route] = []
    page.route("**", lambda route: held.append(route) if is_poll(route.request) else route.continue_())
    with page.expect_request(is_poll, timeout=SECONDS):
        pass
    box = page.get_by_role("checkbox", name=f"Select {batch.id}")
    box.check()
    with page.expect_response(lambda answer: is_poll(answer.request)):
        held.pop().continue_()
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(500)  # until the answer would be on the page
    expect(box).to_be_checked()


def test_a_live_list_moves_neither_focus_nor_scroll(live: tuple[Page, Any]) -> None:
    page, _ = live
    link = rows(page).nth(20).get_by_role("link").first
    link.focus()
    page.mouse.wheel(0, 300)
    page.wait_for_timeout(300)
    before = page.evaluate("[document.activeElement.href, scrollY]")
    poll(page)
    poll(page)
    assert page.evaluate("[document.activeElement.href, scrollY]") == before
    assert before[1] > 0


# Focus, selections, what is open


def test_the_focus_stays_on_its_batch_when_another_comes_above_it(
    live: tuple[Page, Any], installation: Installation
) -> None:
    page, batch = live
    box = page.get_by_role("checkbox", name=f"Select {batch.id}")
    box.focus()
    newer = named(installation.client, "comes above", 1)
    expect(rows(page).first).to_contain_text(newer.id, timeout=SECONDS)
    expect(box).to_be_focused()
    page.keyboard.press("Space")
    expect(box).to_be_checked()
    expect(page.locator("input[data-row]:checked")).to_have_count(1)
    installation.client.batches.cancel(newer.id)


def test_a_table_of_a_chart_stays_open_and_the_page_goes_on(visit: Visitor) -> None:
    page = visit("/console/")
    page.locator("summary", has_text="As a table").first.click()
    for _ in range(2):
        poll(page)
    expect(page.locator(".chart-data").first).to_have_attribute("open", "")


SELECT = """(selector) => getSelection().selectAllChildren(document.querySelector(selector))"""


def test_text_that_is_selected_in_the_list_pauses_it_and_the_page_says_so(live: tuple[Page, Any]) -> None:
    page, _ = live
    mark = page.locator("#batches .live-mark")
    expect(mark).to_have_text("Live")
    page.evaluate(SELECT, "#batches tbody")
    expect(mark).to_have_text("Paused")
    expect(mark).to_have_attribute("title", re.compile("select"))
    assert polls_within(page, 6_000) == 0
    page.evaluate("getSelection().removeAllRanges()")
    expect(mark).to_have_text("Live")
    poll(page)


def test_text_that_is_selected_elsewhere_pauses_nothing(live: tuple[Page, Any]) -> None:
    page, _ = live
    page.evaluate(SELECT, "h1")
    poll(page)
    assert page.evaluate("getSelection().toString()") == "Batches"
    expect(page.locator("#batches .live-mark")).to_have_text("Live")


def test_who_selects_rows_or_types_is_told_that_the_list_is_paused(live: tuple[Page, Any]) -> None:
    page, batch = live
    mark = page.locator("#batches .live-mark")
    box = page.get_by_role("checkbox", name=f"Select {batch.id}")
    box.check()
    expect(mark).to_have_text("Paused")
    box.uncheck()
    expect(mark).to_have_text("Live")
    page.get_by_role("searchbox", name="Id of a batch or file").focus()
    expect(mark).to_have_text("Paused")


def test_where_the_browser_does_not_copy_it_is_said_how_and_the_list_goes_on(
    visit: Visitor, live: tuple[Page, Any]
) -> None:
    _, batch = live
    page = visit(role="operator")
    # As it is where the page has come by http:// from another machine.
    page.add_init_script("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    page.goto("/console/batches")
    page.get_by_role("button", name=f"Copy {batch.id}").click()
    hint = page.get_by_role("status").filter(has_text="Press Ctrl+C")
    expect(hint).to_be_in_viewport(ratio=1)
    expect(hint).not_to_have_class(re.compile("visually-hidden"))
    poll(page)
    assert page.evaluate("getSelection().toString()") == batch.id
    expect(hint).to_have_class(re.compile("visually-hidden"), timeout=SECONDS)


# What does not get through


def refused(status: int) -> Any:
    return lambda route: route.fulfill(status=status, body="no")


FAILURES = {
    "an error": refused(503),
    "a refusal": refused(403),
    "no network": lambda route: route.abort(),
    "a form to sign in": lambda route: route.fulfill(body="<form><input type=password></form>"),
}


@pytest.fixture
def quiet(visit: Visitor) -> Any:
    """What these tests do to the network, the browser complains of."""
    yield
    visit.close()  # before: a page that goes on asking goes on complaining
    visit.complaints.clear()


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("failure", FAILURES)
def test_a_page_that_is_not_updated_says_so_until_it_is(visit: Visitor, live: Any, failure: str) -> None:
    page = visit(role="operator", zone="Asia/Kathmandu")
    page.add_init_script(HURRY)
    page.goto("/console/batches")
    shown = rows(page).count()
    mark, told = page.locator("#batches .live-mark"), page.locator("#announce")
    page.route("**", lambda route: FAILURES[failure](route) if is_poll(route.request) else route.continue_())
    expect(mark).to_have_text(re.compile(r"^Not updated since \d\d:\d\d:\d\d$"))
    expect(told).to_have_text(mark.inner_text())
    now = datetime.now(ZoneInfo("Asia/Kathmandu"))
    assert mark.inner_text()[-8:] in {f"{now - timedelta(seconds=ago):%H:%M:%S}" for ago in range(60)}
    assert rows(page).count() == shown
    assert page.evaluate("waits.filter((wait) => wait >= 2000).at(-1)") == 15_000
    page.unroute_all(behavior="ignoreErrors")
    expect(mark).to_have_text("Live")
    expect(told).to_have_text("Live")


@pytest.mark.usefixtures("quiet")
def test_an_answer_that_does_not_come_is_not_waited_for_for_ever(live: tuple[Page, Any]) -> None:
    page, _ = live
    held: list[Route] = []
    page.route("**", lambda route: held.append(route) if is_poll(route.request) else route.continue_())
    expect(page.locator("#batches .live-mark")).to_contain_text("Not updated since", timeout=20_000)
    page.unroute_all(behavior="ignoreErrors")
    expect(page.locator("#batches .live-mark")).to_have_text("Live", timeout=20_000)


@pytest.mark.usefixtures("quiet")
def test_a_live_part_without_a_mark_of_its_own_says_it_beside_the_heading(visit: Visitor) -> None:
    page = visit("/console/models")
    mark = page.locator(".page-head .live-mark")
    expect(mark).to_have_text("Live")
    page.route("**", lambda route: route.abort() if is_poll(route.request) else route.continue_())
    expect(mark).to_contain_text("Not updated since", timeout=SECONDS)


# What comes by itself can be cancelled


def test_what_comes_to_a_list_without_anything_to_cancel_is_cancelled(
    visit: Visitor, installation: Installation
) -> None:
    upstream = installation.upstream.control
    upstream.reset()
    client = installation.stack.new_client("Comers")
    wait_for(client, named(client, "has ended", 1))
    upstream.set(latency_ms=60_000)
    address = "/console/batches?account=Comers"
    page = visit(role="operator")

    def live(route: Route) -> None:  # as it is while a batch is about to end
        answer = route.fetch()
        route.fulfill(
            response=answer, body=answer.text().replace('id="batches"', f'id="batches" data-live="{address}"')
        )

    page.route("**", lambda route: route.continue_() if is_poll(route.request) else live(route))
    page.goto(address)
    page.unroute_all(behavior="ignoreErrors")
    expect(page.get_by_role("button", name=re.compile("^Cancel"))).to_have_count(0)
    batch = wait_for(client, named(client, "comes later", 5), "in_progress")
    page.get_by_role("checkbox", name=f"Select {batch.id}").check(timeout=SECONDS)
    page.get_by_role("button", name="Cancel the selected…").click()
    page.get_by_label("Why").fill("it came by itself")
    page.get_by_role("button", name=re.compile("Cancel")).click()
    assert wait_for(client, batch, "cancelled").status == "cancelled"
    upstream.reset()
