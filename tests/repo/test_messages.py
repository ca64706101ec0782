"""Every message of the console has its Chinese."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from django.template.base import Lexer, TokenType

from tests import catalogue


def test_no_message_is_missing_in_the_catalogue_and_none_is_left_over() -> None:
    known = {(message.context, message.id) for message in catalogue.translated() if message.id}
    used = {(message.context, message.id) for message in catalogue.in_source() if message.id}
    assert used == known, "make messages, then translate"


def test_every_message_is_translated() -> None:
    assert [m.id for m in catalogue.translated() if m.id and not catalogue.is_translated(m)] == []


def test_translations_have_the_placeholders_of_their_originals() -> None:
    for message in catalogue.translated():
        if message.id and catalogue.is_translated(message):
            original, *forms = catalogue.placeholders(message)
            assert all(form == original for form in forms), message.id


def test_the_compiled_catalogue_is_up_to_date() -> None:
    assert catalogue.MO.read_bytes() == catalogue.compiled(catalogue.translated()), "make messages"


# What is written the same in every language
_SAME = "Batchdesk|custom_id|requests.jsonl|UTC|URL|API|curl|Python|CSV|JSON|ID|RQ|Redis|x|j|k|o|p50|p95|s|ms"
UNTRANSLATED = re.compile(rf"[\W\d_]*({_SAME})?[\W\d_]*")
SPOKEN = ("aria-label", "placeholder", "title", "alt", "data-label")


class _Texts(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._code = 0

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self._code += tag in ("pre", "code", "kbd")
        self.found += [value for name, value in attributes if name in SPOKEN and value]

    def handle_endtag(self, tag: str) -> None:
        self._code -= tag in ("pre", "code", "kbd")

    def handle_data(self, data: str) -> None:
        if not self._code:
            self.found.append(data)


@pytest.mark.parametrize("path", catalogue.templates(), ids=lambda path: path.name)
def test_no_template_has_words_outside_of_translate_tags(path: Path) -> None:
    texts = _Texts()
    texts.feed(_without_tags(path.read_text()))
    assert [text.strip() for text in texts.found if not UNTRANSLATED.fullmatch(text)] == []


def _without_tags(source: str) -> str:
    """Tags leave nothing; what stands in a blocktranslate goes with it."""
    kept, inside = [], False
    for token in Lexer(source).tokenize():
        if token.token_type == TokenType.BLOCK:
            opens = token.contents.startswith(("blocktranslate", "block body_class"))
            inside = opens or (inside and token.contents not in ("endblocktranslate", "endblock"))
        elif token.token_type == TokenType.TEXT and not inside:
            kept.append(token.contents)
    return "".join(kept)
