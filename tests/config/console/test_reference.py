"""The page that shows the API's description."""

import re
from html.parser import HTMLParser

import pytest
from django.test import Client

from config.api.schema_document import document
from config.console.reference import kind_of, marked

REFUSED = re.compile(r"<style|<script|\sstyle=|\son\w+=|javascript:", re.IGNORECASE)


class Page(HTMLParser):
    def __init__(self, source: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.feed(source)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.ids += [value for name, value in attributes if name == "id" and value]
        self.links += [value for name, value in attributes if name in ("href", "src") and value]


@pytest.fixture
def source() -> str:
    return Client().get("/docs").content.decode()


def test_it_shows_every_operation_and_object(source: str) -> None:
    shown = Page(source).ids
    names = [one["operationId"] for methods in document()["paths"].values() for one in methods.values()]
    assert {*names, *document()["components"]["schemas"]} <= set(shown)
    assert len(shown) == len(set(shown))


def test_no_link_leads_nowhere_or_elsewhere(source: str) -> None:
    page = Page(source)
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    assert all(link.startswith(("#", "/static/")) or link == "/v1/openapi.json" for link in page.links)


def test_it_needs_no_script_and_keeps_the_policy_of_the_console(source: str) -> None:
    assert REFUSED.findall(source) == []
    answer = Client().get("/docs")
    assert "default-src 'self'" in answer["Content-Security-Policy"]
    assert answer["X-Frame-Options"] == "DENY"


def test_its_examples_are_of_this_installation(source: str) -> None:
    assert "http://testserver/v1/files" in source
    assert "$BATCHDESK" not in source


def test_it_is_in_english_whatever_the_browser_prefers() -> None:
    page = Client().get("/docs", headers={"Accept-Language": "zh-CN"}).content.decode()
    assert '<html lang="en"' in page


def test_it_has_the_theme_that_was_chosen_in_the_console() -> None:
    client = Client()
    assert 'data-theme="auto"' in client.get("/docs").content.decode()
    client.cookies["theme"] = "dark"
    answer = client.get("/docs")
    assert 'data-theme="dark"' in answer.content.decode()
    assert "Cookie" in answer["Vary"]


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "integer", "minimum": 1, "maximum": 10_000, "default": 20}, "integer, 1 to 10,000, 20 unless given"),
        ({"type": ["string", "null"]}, "string or null"),
        ({"type": "string", "enum": ["asc", "desc"]}, "string, one of asc · desc"),
        ({"type": "array", "items": {"$ref": "#/components/schemas/File"}}, "list of File"),
        ({"oneOf": [{"$ref": "#/components/schemas/Violations"}, {"type": "null"}]}, "Violations or null"),
        ({"type": "string", "maxLength": 64}, "string, up to 64 characters"),
        ({"contentMediaType": "application/octet-stream"}, "bytes"),
    ],
)
def test_kinds_are_told_in_words(schema: dict[str, object], words: str) -> None:
    assert kind_of(schema) == words


def test_only_backquotes_are_markup() -> None:
    assert marked("`a<b>` <script>") == "<code>a&lt;b&gt;</code> &lt;script&gt;"
