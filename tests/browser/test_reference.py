"""The API's reference in a browser, without a script of its own."""

from itertools import product

from tests.browser.test_accessibility import OVERFLOW, WIDTHS, violations
from tests.browser.visitor import Visitor


def test_axe_finds_nothing_serious_and_nothing_overflows(visit: Visitor) -> None:
    found = []
    for width, scheme in product(WIDTHS, ("light", "dark")):
        page = visit("/docs", role="", width=width, scheme=scheme)
        found += [f"{width} {scheme}: {violation}" for violation in violations(page)]
        if beyond := page.evaluate(OVERFLOW):
            found.append(f"{width} {scheme}: {beyond} px wider than the window")
    assert not found, "\n".join(found)


def test_it_is_read_and_found_one_s_way_in_without_a_script(visit: Visitor) -> None:
    page = visit("/docs", role="", width=360, script=False)
    page.get_by_text("Contents", exact=True).click()
    page.get_by_role("link", name="GET Download a file").click()
    page.wait_for_url("**/docs#downloadFile")
    page.locator("#downloadFile").get_by_text("The range is not within the file.").click()
    assert page.locator("#downloadFile").get_by_text("Content-Range", exact=True).nth(1).is_visible()
