"""Text of tenants, of upstreams and of whoever else, on every page: shown, harmless.

Each page is rendered twice: with hostile text in every column that takes some, and with letters in its place. Both are
made of the same elements and attributes, or some of the text has become one.
"""

import csv
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from html.parser import HTMLParser
from io import StringIO
from itertools import zip_longest
from typing import Any
from urllib.parse import quote, urlencode

import msgspec
import pytest
from django.db import transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from batches_app import queue
from batches_app.models import Batch, BatchEvent, ErrorGroup, Operation, SavedView, ServedModel, Shard
from batches_app.queue import Snapshot, WorkerState
from batches_app.results import Outcome
from billing_app import audit, months
from billing_app.models import APIKey, AuditEntry, Price
from billing_app.pricing import Tokens
from files_app import retention
from files_app.models import StoredFile
from tests import books, routes
from tests.batches_app import test_lines as lines_of
from tests.factories import LaneFactory, PriceFactory, ServedModelFactory
from tests.operators import signed_in
from tests.tenants import Tenant

pytestmark = pytest.mark.django_db

SCRIPT = "\"'></title></pre><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7|add:7 }}{% now 'Y' %}&lt;b&amp;"
# Turns the direction, breaks lines where nobody sees it, has no width, or is no text at all.
UNSEEN = "\u202egpj.\u202d\u2066\u2069\u200b\u200f\u2028\u2029\x85\x07\x1b[31m\ufeff"
TEXT = "=1+1\"'><script>x</script>" + UNSEEN + SCRIPT  # in this order, so that a short column has some of each
LONG = 10_000
NUL, HALF = "\0", "\ud83d"  # where JSON can bring them in: a body of an upstream, a line that did not pass
# What must not be in a page as it is, but in a field of a form, which is sent back.
LEFT_AS_IT_IS = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)
_HARMLESS = str.maketrans(dict.fromkeys("<>\"'&{}%=|!;" + UNSEEN + NUL + HALF, "a"))

Spoil = Callable[[str], str]


def as_it_is(text: str) -> str:
    return text


def as_letters(text: str) -> str:
    return text.translate(_HARMLESS)


# What is in the database


class World:
    """A row of everything that a page shows, with `text` where a text can be, as long as it can be."""

    def __init__(self, spoil: Spoil) -> None:
        self.text = spoil(TEXT)
        self.now = timezone.now()
        self.tenant = Tenant(self._fit(100))
        APIKey.objects.update(name=self._fit(100))
        self.model = self._has_model()
        self.price: Price = PriceFactory(model_name=self.model.name)
        self.ended = self._has_ended(spoil)
        self.running = self._has_running(spoil)
        self.invalid = self._has_invalid(spoil)
        self.retry = self._has_batch(parent=self.ended, retried_code=self._fit(100))
        self.file = self.tenant.has_file(filename=self._fit(512))
        self.deleted = self._has_deleted()
        self.operations = self._has_operations()
        self._has_saved_view()
        self._has_been_audited()
        self._has_spent()

    def _fit(self, most: int) -> str:
        return (self.text * (1 + most // len(self.text)))[:most]

    def _has_model(self) -> ServedModel:
        said = {"probe_note": self._fit(500), "probed_at": self.now, "probe_succeeded": False}
        address = {"upstream_url": f"http://x/{self._fit(400)}", "upstream_model": self._fit(200)}
        model: ServedModel = ServedModelFactory(name=self._fit(200), **said, **address)
        held = {"lease_expires_at": self.now + timedelta(minutes=1), "owner": self._fit(200)}
        LaneFactory(model=model, paused_since=self.now, pause_reason=self._fit(500), **held)
        return model

    def _has_batch(self, **columns: Any) -> Batch:
        metadata = {self._fit(64): self._fit(512), "ds_name": self._fit(100)}
        facts: dict[str, Any] = {
            "name": self._fit(100),
            "metadata": metadata,
            "model": self.model,
            "model_name": self.model.name,
        }
        return self.tenant.has_batch(**(facts | {"price": self.price} | columns))

    def _outcomes(self, spoil: Spoil) -> dict[str, Outcome | None]:
        body = spoil(f'{{"text": "{SCRIPT} {UNSEEN}"}}'.replace("\"'>", "'>")).encode(errors="surrogatepass")
        escapes = b'{"text": "\\u0000 \\ud83d \\u202e </pre><script>alert(1)</script>"}'
        refused = spoil(SCRIPT + UNSEEN + NUL + "x" * LONG).encode()
        return {
            self._fit(512): Outcome(200, self.text, escapes if spoil is as_it_is else b'{"text": "x"}'),
            "deep": Outcome(200, "r", b'{"a": ' + b"[" * 5000 + b"]" * 5000 + b"}"),
            "long": Outcome(200, "r", b'{"a": "%b"}' % (b"x" * 200_000)),
            "body": Outcome(200, "r", body if spoil is as_it_is else b'{"text": "x"}'),
            "no json": Outcome(400, self.text, refused),
            "said": Outcome(400, "r", _as_json({"error": {"code": self.text, "message": self.text + NUL}})),
            "silent": Outcome(None, None, b"", self._fit(80), self.text + "x" * LONG),
        }

    def _has_ended(self, spoil: Spoil) -> Batch:
        outcomes = {name: one for name, one in self._outcomes(spoil).items() if one is not None}
        batch = lines_of.ended(self.tenant, outcomes, name=self._fit(100), model_name=self.model.name)
        group = {"code": self._fit(100), "custom_id": self._fit(200), "message": self._fit(500)}
        ErrorGroup.objects.create(batch=batch, count=1, first_line=1, **group)
        return batch

    def _has_running(self, spoil: Spoil) -> Batch:
        batch = lines_of.running(self.tenant, self._outcomes(spoil) | {"waiting": None})
        Batch.objects.filter(pk=batch.pk).update(name=self._fit(100), model=self.model, model_name=self.model.name)
        for kind in BatchEvent.Kind:
            BatchEvent.objects.create(batch=batch, kind=kind, lane=self._fit(220), owner=self._fit(200))
        retention.hold(StoredFile.objects.get(pk=batch.source_id or 0), batch.public_id)
        Shard.objects.filter(batch=batch).update(model=self.model)
        return Batch.objects.get(pk=batch.pk)

    def _has_invalid(self, spoil: Spoil) -> Batch:
        said = [
            {"code": self.text, "line": n, "message": self.text + "x" * LONG, "param": self.text} for n in (1, None)
        ]
        return self._has_batch(status="failed", errors=said, failed_at=self.now)

    def _has_deleted(self) -> StoredFile:
        file = self.tenant.has_file(filename=self._fit(512))
        retention.hold(file, self.running.public_id)
        retention.delete_file(file, now=self.now)
        return StoredFile.objects.get(pk=file.pk)

    def _has_operations(self) -> list[Operation]:
        facts = {"created_by": self._fit(150), "reason": self._fit(500), "address": self._fit(64), "total": 1}
        query = urlencode({"q": self.text})[:2000]
        cancel = {"kind": "cancel", "targets": [self.running.pk], "query": query} | facts
        retry = {"kind": "retry", "targets": [self.ended.pk], "error_code": self._fit(100)} | facts
        bad = {"position": 1, "problems": [[self.running.public_id, "completed"]], "started_at": self.now}
        why = {"problems": [[self.ended.public_id, self.text]], "started_at": self.now}
        return [
            Operation.objects.create(**cancel),
            Operation.objects.create(**retry),
            Operation.objects.create(**cancel | bad, state="running"),
            Operation.objects.create(**cancel | bad, state="done", finished_at=self.now),
            Operation.objects.create(**retry | why, state="failed", finished_at=self.now),
        ]

    def _has_saved_view(self) -> None:
        user = signed_in("viewer", name="reader").session["_auth_user_id"]
        query = urlencode({"q": self.text})[:2000]
        SavedView.objects.create(user_id=user, name=self._fit(60), query=query)

    def _has_been_audited(self) -> None:
        changes = {self._fit(50): ([self.text], self.text), "long": (None, "x" * LONG)}
        for target in (self.text, self.file, self.running, self.tenant.account, self.model):
            audit.record(
                actor=self._fit(150),
                action="account.changed",
                target=target,
                account=self.tenant.account.name,
                changes=changes,
                reason=self._fit(500),
                address=self._fit(64),
            )
        AuditEntry.objects.create(actor="x", action=self._fit(64), target="y")

    def _has_spent(self) -> None:
        key = self.tenant.api_key.pk
        books.use(self.tenant.account, self.price, Tokens(1_000), batch_id="b", api_key_id=key, now=self.now)
        books.top_up(self.tenant.account, "100", reason=self._fit(500), now=self.now)


def _as_json(value: object) -> bytes:
    return msgspec.json.encode(value)


@contextmanager
def world(spoil: Spoil) -> Iterator[World]:
    """For a moment: what happens in it is undone."""
    with transaction.atomic():
        yield World(spoil)
        transaction.set_rollback(True)


# What is looked at


def addresses(one: World) -> dict[str, list[str]]:
    """Of each route by its name: every page there that shows a text."""
    batches = [batch.public_id for batch in (one.ended, one.running, one.invalid, one.retry)]
    words = [urlencode({"q": one.text[:200]}), urlencode({one.text[:60]: "x"}), urlencode({"account": one.text})]
    mine = urlencode({"account": one.tenant.account.name})
    at = {
        "overview": [""],
        "batches": ["batches", *(f"batches?{query}" for query in (*words, mine, urlencode({"model": one.text[:200]})))],
        "batches_csv": ["batches.csv"],
        "batch": [f"batches/{batch}" for batch in batches],
        "lines": [
            f"batches/{one.ended.public_id}/lines?kind=all",
            *(
                f"batches/{batch}/lines?{query}"
                for batch in batches[:2]
                for query in ("kind=failed", "kind=succeeded", urlencode({"custom_id": one.text}), words[1])
            ),
        ],
        "operations": ["operations", f"operations?{urlencode({'state': one.text[:8]})}"],
        "operation": [f"operations/{operation.pk}" for operation in one.operations],
        "files": ["files", *(f"files?{query}" for query in (*words, mine))],
        "file": [f"files/{file.public_id}" for file in (one.file, one.deleted)],
        "delete_file": [f"files/{one.file.public_id}/delete"],
        "download_file": [f"files/{one.file.public_id}/download"],
        "accounts": ["accounts", f"accounts?{words[0]}", f"accounts?{words[1]}"],
        "account": [f"accounts/{one.tenant.account.pk}"],
        "statement": [f"accounts/{one.tenant.account.pk}/statement/{months.containing(one.now)}.csv"],
        "models": ["models", f"models?{urlencode({'state': one.text})}"],
        "usage": ["usage", f"usage?{mine}", *(f"usage?{query}" for query in words)],
        "usage_csv": ["usage.csv"],
        "workers": ["workers"],
        "audit": ["audit", *(f"audit?{query}" for query in words)],
        "audit_csv": ["audit.csv"],
        "login": [],
    }
    found = {name: [f"/console/{address}" for address in these] for name, these in at.items()}
    found["login"] = [f"/console/login?{urlencode({'next': one.text})}"]
    return found


FILES = {"batches_csv", "download_file", "statement", "usage_csv", "audit_csv", "line_part"}
OF_LINES = {"line", "line_part"}  # reached from the lists of lines
CONTENTS = {"line"}  # where a long text is shown, up to 64 KB of it


class Parsed(HTMLParser):
    """`elements`: each with the names of its attributes. `said`: what is to be read, and what is read out."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, ...]] = []
        self.said: list[str] = []
        self.links: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, *sorted(name for name, _ in attributes)))
        self.said += [value or "" for name, value in attributes if name != "value"]
        self.links += [value for name, value in attributes if name in ("href", "src", "action") and value]

    def handle_data(self, data: str) -> None:
        self.said.append(data)

    def handle_comment(self, data: str) -> None:
        self.elements.append(("comment",))

    def unknown_decl(self, data: str) -> None:
        self.elements.append(("declaration",))


@dataclass(frozen=True)
class Answer:
    address: str
    status: int
    headers: Mapping[str, str]
    text: str


Pages = dict[str, list[Answer]]


def pages(spoil: Spoil, monkeypatch: pytest.MonkeyPatch, **headers: str) -> Pages:
    """The answers of every route that has a page, in the order of their addresses."""
    with world(spoil) as one:
        monkeypatch.setattr(queue, "snapshot", lambda: _snapshot(one))
        client, nobody = signed_in(name="root"), Client(headers=headers)
        client.defaults |= nobody.defaults
        who = {"login": nobody}
        answers = {
            name: [_get(who.get(name, client), address) for address in these] for name, these in addresses(one).items()
        }
        lists = [Parsed(page.text).links for page in answers["lines"] if page.status == 200]
        links = [link.partition("?")[0] for links in lists for link in links]
        lines = list(dict.fromkeys(link for link in links if re.search(r"/lines/[aloe][0-9-]+$", link)))
        answers["line"] = [_get(client, link) for link in lines]
        answers["line_part"] = [_get(client, f"{link}/{part}") for link in lines for part in ("request", "response")]
        user = client.session["_auth_user_id"]
        SavedView.objects.update(user_id=user)
        answers["batches"].append(_get(client, "/console/batches"))
    return answers


def _snapshot(one: World) -> Snapshot:
    text = one.text[:150]
    return Snapshot(True, [WorkerState(text, text, 1, [text], text, text, one.now, one.now)], {text: 1})


def _get(client: Client, address: str) -> Answer:
    answer = client.get(address, follow=True)
    data = answer.getvalue() if answer.streaming else answer.content
    return Answer(address[:150], answer.status_code, answer.headers, data.decode())


@pytest.fixture(scope="module", params=["en", "zh-CN"])
def both(request: pytest.FixtureRequest, django_db_setup: None, django_db_blocker: Any) -> tuple[Pages, Pages]:
    """Once for all tests, which only look at them."""
    language = {"Accept-Language": request.param}
    with django_db_blocker.unblock(), pytest.MonkeyPatch.context() as patch:
        return pages(as_it_is, patch, **language), pages(as_letters, patch, **language)


def test_every_page_is_looked_at() -> None:
    with world(as_letters) as one:
        looked_at = set(addresses(one)) | OF_LINES
    takes_get = {route.name for route in routes.console() if "GET" in routes.methods(route)}
    assert looked_at == takes_get | {"login"}


def test_text_is_text_on_every_page(both: tuple[Pages, Pages]) -> None:
    hostile, harmless = both
    found = []
    for name, answers in hostile.items():
        assert len(answers) == len(harmless[name]) > 0, name
        for answer, other in zip(answers, harmless[name], strict=True):
            problems = [f"answers {answer.status}, not {other.status}"] if answer.status != other.status else []
            if name not in FILES:
                problems += _problems(Parsed(answer.text), Parsed(other.text))
            if name not in CONTENTS | FILES and "x" * 1100 in answer.text:
                problems.append("shows a text of any length")
            found += [f"{name} {answer.address}: {problem}" for problem in problems]
        if name not in FILES | {"login"} and not any("⟨U+202E⟩" in answer.text for answer in answers):
            found.append(f"{name} nowhere writes out what is unseen")
    assert not found, "\n".join(found)


def _problems(page: Parsed, other: Parsed) -> Iterator[str]:
    pairs = enumerate(zip_longest(page.elements, other.elements))
    if born := next((number for number, (one, two) in pairs if one != two), None):
        yield f"has {page.elements[born - 3 : born + 1]}, not {other.elements[born - 3 : born + 1]}"
    yield from (f"leaves {text!r:.80} as it is" for text in page.said if LEFT_AS_IT_IS.search(text))
    yield from (f"links to {link!r:.80}" for link in page.links if not link.startswith(("/", "?", "#")))


def test_no_cell_of_a_table_is_a_formula(both: tuple[Pages, Pages]) -> None:
    hostile, _ = both
    for name in ("batches_csv", "statement", "usage_csv", "audit_csv"):
        (answer,) = hostile[name]
        assert answer.headers["Content-Type"].startswith("text/csv")
        cells = [cell for row in csv.reader(StringIO(answer.text.lstrip("\ufeff"))) for cell in row]
        assert "script" in answer.text, name  # the text is in it
        risky = [cell for cell in cells if cell[:1] in tuple("=+-@\t\r\n") and not re.fullmatch(r"-?[0-9.]+", cell)]
        assert risky == [], name


def test_what_is_downloaded_has_a_plain_name_and_is_not_opened(both: tuple[Pages, Pages]) -> None:
    hostile, _ = both
    for name in sorted(FILES):
        for answer in hostile[name]:
            assert re.fullmatch(r'attachment; filename="[\w .:-]+"', answer.headers["Content-Disposition"]), name
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert "html" not in answer.headers["Content-Type"]


ODD = ("%00", "%ed%a0%80", quote(TEXT), "9" * 400, "-1", "x" * LONG, "", "0001-01-01")
OF_PREFERENCES = {"csrfmiddlewaretoken", "theme", "language", "back"}


@pytest.mark.parametrize("name", sorted(route.name or "" for route in routes.console()))
def test_no_parameter_makes_an_error(name: str) -> None:
    """Whatever it is called, and whatever it is: said to be wrong, or taken for a text."""
    route = next(one for one in routes.console() if one.name == name)
    if "GET" not in routes.methods(route) or route.pattern.converters:
        return
    client, address = signed_in(), reverse(f"console:{name}")
    on_page = set(re.findall(r'name="(\w+)"', client.get(address).getvalue().decode())) - OF_PREFERENCES
    for parameter in sorted(on_page | {"q", "after", "before", "sort", "size", "from", "to", "%00", quote(TEXT)}):
        for value in ODD:
            answer = client.get(f"{address}?{parameter}={value}")
            answer.getvalue()
            assert answer.status_code in (200, 302, 400), (parameter, value)
