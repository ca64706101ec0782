"""What operators do with batches, in a real browser on a real installation."""

import re
from typing import Any

import pytest
from openai import OpenAI
from playwright.sync_api import Page, expect

from tests.browser.installation import MODEL, Installation
from tests.browser.visitor import Visitor
from tests.stack import request_line, start_batch, wait_for

SECONDS = 30_000  # ms, for what the service does meanwhile
SLOW = 1_500  # ms, of an answer


@pytest.fixture
def upstream(installation: Installation) -> Any:
    installation.upstream.control.reset()
    return installation.upstream.control


def named(client: OpenAI, name: str, lines: int, *, content: str = "cid:{n} hello") -> Any:
    """A batch of that name, just created."""
    data = "\n".join(request_line(f"row-{n}", content.format(n=n), MODEL) for n in range(lines)).encode()
    file = client.files.create(file=(f"{name}.jsonl", data), purpose="batch")
    return client.batches.create(
        input_file_id=file.id,
        endpoint="/v1/chat/completions",
        completion_window="24h",
        metadata={"ds_name": name},
    )


def rows(page: Page) -> Any:
    return page.locator("#batches tbody tr")


def test_a_batch_is_watched_from_its_creation_to_its_end_without_a_reload(
    visit: Visitor, installation: Installation, upstream: Any
) -> None:
    upstream.set(latency_ms=SLOW)
    batch = named(installation.client, "watched", 100)
    page = visit(f"/console/batches/{batch.id}")
    page.evaluate("window.stayed = true")
    cancel = page.get_by_role("button", name="Cancel…")
    expect(cancel).to_be_visible()
    expect(page.get_by_text(re.compile(r"[1-9]\d? of 100 requests")).first).to_be_visible(timeout=SECONDS)
    expect(page.locator("main .badge", has_text="Completed").first).to_be_visible(timeout=SECONDS)
    expect(page.get_by_text("100 of 100 requests").first).to_be_visible()
    assert page.evaluate("window.stayed")
    expect(cancel).to_have_count(0)
    # Nothing more will come, and nothing more is asked for.
    expect(page.locator("[data-live]")).to_have_count(0)


def test_the_list_shows_what_comes_to_an_end(visit: Visitor, installation: Installation, upstream: Any) -> None:
    upstream.set(latency_ms=SLOW)
    batch = named(installation.client, "in the list", 40)
    page = visit("/console/batches?account=Journeys&q=in+the+list")
    row = rows(page).filter(has_text=batch.id)
    expect(row.locator(".badge").first).to_have_text("Completed", timeout=SECONDS)
    expect(row).to_contain_text("40 of 40 requests")


def test_a_filtered_list_is_shared_by_its_address_and_left_by_going_back(
    visit: Visitor, installation: Installation
) -> None:
    page = visit("/console/batches")
    everything = rows(page).count()
    page.get_by_role("link", name="Failed", exact=True).click()
    expect(page).to_have_url(re.compile("status=failed"))
    page.locator("summary", has_text="Filters").click()
    page.get_by_label("Account", exact=True).fill("Nordlicht Search")
    page.get_by_role("button", name="Apply").click()
    expect(page).to_have_url(re.compile("account=Nordlicht"))
    found = rows(page).all_inner_texts()
    assert 0 < len(found) < everything
    assert all("Failed" in text and "Nordlicht Search" in text for text in found)

    elsewhere = visit(page.url, role="viewer")
    assert rows(elsewhere).count() == len(found)
    expect(elsewhere.get_by_role("list", name="Filters in force")).to_contain_text("Nordlicht Search")

    page.go_back()
    expect(page).to_have_url(re.compile(r"status=failed$"))
    page.go_back()
    assert rows(page).count() == everything


def test_a_filter_that_cannot_be_is_said_and_nothing_is_listed(visit: Visitor) -> None:
    page = visit("/console/batches?status=nonsense", status=400)
    expect(page.get_by_role("alert")).to_contain_text("Status")
    assert rows(page).count() == 0


def test_all_that_match_are_cancelled_at_once(visit: Visitor, installation: Installation, upstream: Any) -> None:
    upstream.set(latency_ms=60_000)
    client = installation.stack.new_client("Bulk")
    batches = [wait_for(client, named(client, f"bulk {n}", 50), "in_progress") for n in range(3)]
    page = visit("/console/batches?account=Bulk&status=under_way", role="operator")
    page.get_by_role("checkbox", name=f"Select {batches[0].id}").check()
    page.get_by_role("button", name="Cancel all that match…").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("3")
    page.get_by_label("Why").fill("a test of the console")
    page.get_by_role("button", name=re.compile("Cancel")).click()
    expect(page.locator("main")).to_contain_text("3 batches", timeout=SECONDS)
    expect(page.locator("main")).to_contain_text("a test of the console")
    for batch in batches:
        assert wait_for(client, batch, "cancelled").status == "cancelled"
    upstream.reset()


def test_one_that_is_selected_is_cancelled_and_no_other(
    visit: Visitor, installation: Installation, upstream: Any
) -> None:
    upstream.set(latency_ms=60_000)
    client = installation.stack.new_client("Chosen")
    one, other = (wait_for(client, named(client, f"chosen {n}", 5), "in_progress") for n in range(2))
    page = visit("/console/batches?account=Chosen", role="operator")
    bar = page.get_by_role("button", name="Cancel the selected…")
    expect(bar).to_be_hidden()
    page.get_by_role("checkbox", name=f"Select {one.id}").check()
    expect(page.get_by_text("1 selected")).to_be_visible()
    bar.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Cancel")
    page.get_by_label("Why").fill("only this one")
    page.get_by_role("button", name=re.compile("Cancel")).click()
    assert wait_for(client, one, "cancelled").status == "cancelled"
    assert client.batches.retrieve(other.id).status == "in_progress"
    upstream.reset()
    client.batches.cancel(other.id)


def test_failed_lines_of_one_code_run_again_as_a_batch_that_is_linked(
    visit: Visitor, installation: Installation, upstream: Any
) -> None:
    upstream.set(match="cid:[0-3] ", status=400)
    upstream.set(match="cid:[4-5] ", body='{"no": "answer"', status=200)
    batch = wait_for(installation.client, named(installation.client, "to be retried", 12))
    assert batch.request_counts.failed == 6
    upstream.reset()
    page = visit(f"/console/batches/{batch.id}", role="operator")
    group = page.locator("#errors tr, #errors li").filter(has_text="http_400")
    expect(group).to_contain_text("4")
    group.get_by_role("button", name=re.compile("Retry|Run")).click()
    expect(page.locator("main")).to_contain_text("http_400")
    page.get_by_label("Why").fill("the upstream was mended")
    page.get_by_role("button", name=re.compile("Retry|Run")).click()
    expect(page.locator("main")).to_contain_text("4 lines run again", timeout=SECONDS)
    page.locator("dd", has_text="batch_").get_by_role("link").first.click()
    expect(page.locator("main")).to_contain_text("4 of 4 requests", timeout=SECONDS)
    page.get_by_role("link", name=batch.id).first.click()
    expect(page).to_have_url(re.compile(batch.id))
    # And back from there: the old one knows the new one.
    expect(page.locator("main").get_by_text("http_400").first).to_be_visible()


@pytest.mark.parametrize("path", ["batches", "models", "files", "operations", "workers"])
def test_who_may_only_look_is_shown_no_button_that_changes_anything(visit: Visitor, path: str) -> None:
    page = visit(f"/console/{path}", role="viewer")
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    doing = page.locator("main").get_by_role("button", name=re.compile("Cancel|Pause|Resume|Probe|Delete|Retry|Abort"))
    expect(doing).to_have_count(0)
    expect(page.locator("main input[data-row]")).to_have_count(0)


def test_who_may_only_look_is_refused(visit: Visitor, installation: Installation) -> None:
    page = visit("/console/batches", role="viewer")
    token = page.locator("input[name=csrfmiddlewaretoken]").first.get_attribute("value")
    form: dict[str, str | float | bool] = {"csrfmiddlewaretoken": token or "", "all": "1", "query": "status=under_way"}
    answer = page.request.post("/console/operations/cancel", form=form, headers={"Referer": installation.address})
    assert answer.status == 403
    assert "You may not do this" in answer.text()


def test_without_scripts_batches_are_found_and_cancelled(
    visit: Visitor, installation: Installation, upstream: Any
) -> None:
    upstream.set(latency_ms=60_000)
    client = installation.stack.new_client("Scriptless")
    batch = wait_for(client, named(client, "without scripts", 5), "in_progress")
    page = visit("/console/batches", role="operator", script=False)
    page.get_by_role("searchbox", name="Id of a batch or file").fill("without scripts")
    page.get_by_role("search", name="Filter batches").get_by_role("button", name="Search").click()
    expect(rows(page)).to_have_count(1)
    page.get_by_role("checkbox", name=f"Select {batch.id}").check()
    page.get_by_role("button", name="Cancel the selected…").click()
    page.get_by_label("Why").fill("no scripts here")
    page.get_by_role("button", name=re.compile("Cancel")).click()
    expect(page.locator("main")).to_contain_text("no scripts here")
    assert wait_for(client, batch, "cancelled").status == "cancelled"
    upstream.reset()


def test_by_the_keyboard_alone_a_batch_is_found_opened_and_left(visit: Visitor) -> None:
    page = visit("/console/")
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox", name="Search batches")).to_be_focused()
    page.keyboard.type("summaries")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("q=summaries"))
    for key in "jjk":
        page.keyboard.press(key)
    first = rows(page).first
    expect(first).to_have_class(re.compile("is-current"))
    expect(first.get_by_role("link").first).to_be_focused()
    page.keyboard.press("o")
    expect(page).to_have_url(re.compile("/console/batches/batch_"))
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()


def test_the_skip_link_comes_first_and_leads_to_the_content(visit: Visitor) -> None:
    page = visit("/console/batches")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()


def test_times_are_in_the_viewers_zone_with_utc_on_hover(visit: Visitor, installation: Installation) -> None:
    batch = wait_for(
        installation.client, start_batch(installation.client, request_line("1", "cid:1 x", MODEL).encode())
    )
    page = visit(f"/console/batches/{batch.id}", zone="Asia/Shanghai")
    page.reload()  # the first page told the zone
    shown = page.locator("main time", has_text=re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d")).first
    local, utc = shown.inner_text(), shown.get_attribute("title") or ""
    hours = int(local[11:13]) - int(re.search(r" (\d\d):\d\d:\d\d UTC", utc)[1])  # type: ignore[index]
    assert hours % 24 == 8
