"""The console's messages and their translations: `make messages` brings config/locale up to date with the source."""

import io
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from babel.messages import Catalog, Message, mofile, pofile
from babel.messages.extract import extract_python
from django.utils.translation.template import templatize

ROOT = Path(__file__).resolve().parent.parent
LOCALE = "zh_Hans"
FOLDER = ROOT / "config" / "locale" / LOCALE / "LC_MESSAGES"
PO, MO = FOLDER / "django.po", FOLDER / "django.mo"
APPS = ("config", "billing_app", "files_app", "batches_app")
KEYWORDS: dict[str, Any] = {
    **dict.fromkeys(["_", "gettext", "gettext_lazy", "gettext_noop"]),
    **dict.fromkeys(["ngettext", "ngettext_lazy"], (1, 2)),
    **dict.fromkeys(["pgettext", "pgettext_lazy"], ((1, "c"), 2)),
    **dict.fromkeys(["npgettext", "npgettext_lazy"], ((1, "c"), 2, 3)),
}
PLACEHOLDER = re.compile(r"%(?:\(\w+\))?[sd]|\{\w*\}")


def templates() -> list[Path]:
    """The admin's own are English (config.middleware.Language)."""
    return sorted([*ROOT.glob("templates/*.html"), *ROOT.glob("templates/console/**/*.html")])


def modules() -> list[Path]:
    return sorted(path for app in APPS for path in ROOT.glob(f"{app}/**/*.py") if "migrations" not in path.parts)


def in_source() -> Catalog:
    catalog = Catalog(LOCALE)
    for path in [*templates(), *modules()]:
        for context, text in _messages(path):
            catalog.add(text, context=context)
    return catalog


def _messages(path: Path) -> Iterator[tuple[str | None, str | tuple[str, ...]]]:
    source = path.read_text()
    code = _as_python(source, path) if path.suffix == ".html" else source
    for _line, keyword, found, _comments in extract_python(io.BytesIO(code.encode()), KEYWORDS, [], {}):
        arguments: list[Any] = list(found) if isinstance(found, (list, tuple)) else [found]
        spec = KEYWORDS[str(keyword)] or (1,)
        context = arguments[0] if isinstance(spec[0], tuple) else None
        texts = tuple(arguments[index - 1] for index in spec if isinstance(index, int))
        if all(texts):
            yield context, texts if len(texts) > 1 else texts[0]


def _as_python(template: str, path: Path) -> str:
    """What Django makes of a template for xgettext, which does not mind how lines are indented."""
    return "\n".join(line.lstrip() for line in templatize(template, origin=str(path)).splitlines())


def translated() -> Catalog:
    if not PO.exists():
        return Catalog(LOCALE)
    with PO.open("rb") as file:
        return pofile.read_po(file, locale=LOCALE)


def placeholders(message: Message) -> list[set[str]]:
    """Of the original, all its forms together, and of each form of the translation."""
    original = {name for text in _forms(message.id) for name in PLACEHOLDER.findall(text)}
    return [original, *(set(PLACEHOLDER.findall(form)) for form in _forms(message.string))]


def is_translated(message: Message) -> bool:
    forms = _forms(message.string)
    return not message.fuzzy and bool(forms) and all(forms)


def _forms(texts: Any) -> list[str]:
    return [texts] if isinstance(texts, str) else list(texts or ())


def compiled(catalog: Catalog) -> bytes:
    file = io.BytesIO()
    mofile.write_mo(file, catalog)
    return file.getvalue()


def update() -> tuple[int, int]:
    """Writes both files; returns how many messages there are, and how many lack their translation."""
    catalog = translated()
    catalog.update(in_source(), no_fuzzy_matching=True)
    catalog.obsolete.clear()
    # Nothing that changes though no message does: no dates, no line numbers.
    catalog.creation_date = catalog.revision_date = datetime(2026, 1, 1, tzinfo=UTC)
    catalog.header_comment, catalog.fuzzy = (
        "# Simplified Chinese. `make messages` keeps it in step with the source.",
        False,
    )
    FOLDER.mkdir(parents=True, exist_ok=True)
    with PO.open("wb") as file:
        pofile.write_po(file, catalog, width=120, no_location=True, sort_by_file=False, sort_output=True)
    MO.write_bytes(compiled(translated()))
    messages = [message for message in catalog if message.id]
    return len(messages), sum(not is_translated(message) for message in messages)


if __name__ == "__main__":
    known, missing = update()
    print(f"{known} messages, {missing} of them without a translation in {PO.relative_to(ROOT)}")
