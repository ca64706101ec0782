"""Secrets, each where it belongs in a real installation that logs all it can, with DEBUG on. None is found elsewhere:
not in the log, the database, Redis or a file, nor on a page or in a command line."""

import contextlib
import json
import re
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import psycopg
import pytest
import requests
from openai import APIError, OpenAI
from redis import Redis

from tests import routes
from tests.fake_upstream import FakeUpstream
from tests.stack import Stack, chat_input, request_line, result_lines, start_batch, wait_for

# Django's own signing key, an upstream's, and what somebody types wrong.
GIVEN = {"SECRET_KEY": "canary-of-signing-0123456789abcdef", "MODEL_KEY": "canary-of-upstream-0123456789"}
LOUD = {"LOG_LEVEL": "DEBUG", "DEBUG": "true"}
TYPED = "canary-typed-wrong-0123456789"
FORGED = '\r\n{"level":"error","logger":"x","event":"forged"}\x1b[31m\u2028'
BROKEN_TABLE = "files_app_storedfile"


# The commands as an operator gives them, in one process: each would take a second to start.
SET_UP = """
import io, json
from django.core.management import call_command
from billing_app.models import Account

def given(*arguments):
    out = io.StringIO()
    call_command(*arguments, "--json", stdout=out)
    return json.loads(out.getvalue())

account, operator = given("create_account", "acme"), given("create_operator", "ada")
revoked = given("create_key", "acme")
given("revoke_key", str(revoked["id"]))
rest = "--upstream-key-env=MODEL_KEY --endpoint=/v1/chat/completions --max-concurrency=8"
prices = ("--input-price=1", "--output-price=1")
for name, url in (("m", "UPSTREAM"), ("down", "http://127.0.0.1:9/v1")):
    given("set_model", name, "--upstream-url", url, *rest.split(), *prices)
print(json.dumps({
    "account": Account.objects.get(name="acme").pk,
    "key": account["key"], "revoked": revoked["key"], "password": operator["password"],
}))
"""


class Installation:
    """One that has seen everything once."""

    def __init__(self, stack: Stack, upstream: FakeUpstream) -> None:
        self.stack, self.upstream = stack, upstream
        self.base = stack.base_url.removesuffix("/v1")
        made = json.loads(stack.shell(SET_UP.replace("UPSTREAM", upstream.url)))
        self.account: int = made["account"]
        self.key, self.revoked_key, self.password = (str(made[name]) for name in ("key", "revoked", "password"))
        self.client = OpenAI(base_url=stack.base_url, api_key=self.key, max_retries=0)
        self.browser = self._signed_in()
        self.second_key = self._issued_in_the_admin()
        self.answers: list[str] = []

    @property
    def planted(self) -> dict[str, str]:
        keys = {"key": self.key, "second key": self.second_key, "revoked key": self.revoked_key}
        return keys | GIVEN | {"password": self.password, "typed": TYPED}

    def _signed_in(self) -> requests.Session:
        browser = requests.Session()
        for name, password in (("ada", TYPED), (TYPED, "a name"), ("ada", self.password)):
            page = browser.get(f"{self.base}/console/login")
            form = {"username": name, "password": password, "csrfmiddlewaretoken": _token(page.text)}
            answer = browser.post(f"{self.base}/console/login", form, headers={"Referer": self.base})
        assert answer.url == f"{self.base}/console/"
        return browser

    def _issued_in_the_admin(self) -> str:
        address = f"{self.base}/admin/billing_app/apikey/add/"
        page = self.browser.get(address).text
        once = re.search(r'name="once" value="([^"]+)"', page)
        assert once is not None
        form = {
            "account": self.account,
            "name": "second",
            "once": once[1],
            "csrfmiddlewaretoken": _token(page),
            "why": "x",
        }
        shown = self.browser.post(address, form, headers={"Referer": address}).text
        found = re.search(r"sk-[\w-]{40,}", shown)
        assert found is not None, shown
        return found[0]

    # What happens

    def runs_batches(self) -> None:
        """One whose upstream takes the key, refuses a line and repeats the key to it; one for which it is down."""
        self.upstream.control.set(require_key=GIVEN["MODEL_KEY"])
        self.upstream.control.set(match="cid:1", status=400, body=json.dumps({"error": f"{GIVEN['MODEL_KEY']} is bad"}))
        batch = wait_for(self.client, start_batch(self.client, chat_input(3)))
        lines = result_lines(self.client, batch.error_file_id)
        assert "is bad" in json.dumps(lines)
        self.answers.append(json.dumps(lines))
        waits = start_batch(self.client, request_line("1", "x", model="down").encode())
        wait_for(self.client, waits, "in_progress")
        self.client.batches.cancel(waits.id)

    def is_asked_by_strangers(self) -> None:
        """With a key in every place where somebody once put one, right and wrong."""
        for key in (self.key, self.revoked_key, self.second_key):
            wrong = {"Authorization": f"Bearer {key}x"}
            for path in (f"/v1/files/{key}", f"/v1/files?after={key}", f"/console/files?q={key}", f"/nothing/{key}"):
                self._get(path, wrong)
            self._get("/v1/batches", {"Authorization": f"Basic {key}", "X-Api-Key": key, "Cookie": f"key={key}"})
            self._get("/v1/models", {"User-Agent": key, "Referer": f"{self.base}/?key={key}"})
            self._send(f"GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nBad header {key}\r\n\r\n")
            self._send(f"{key} /{key} HTTP/9.9\r\n\r\n")

    def is_written_to_by_forgers(self) -> None:
        """Text that would be a line of its own in a log, or paint the terminal of who reads it."""
        for path in ("/v1/files/%0d%0a%1b[31mforged", "/console/%0aforged", "/v1/%e2%80%a8forged"):
            self._get(path, {"User-Agent": "\x1b[31mforged", "Authorization": f"Bearer {self.key}"})
        with contextlib.suppress(APIError):
            self.client.files.create(file=(f"in{FORGED}.jsonl", b"x"), purpose="batch")
        start_batch(self.client, request_line(f"1{FORGED}", FORGED, model=f"m{FORGED}").encode())
        self._send("GET /\x1b[31mforged HTTP/1.1\r\nHost: x\r\n\r\n")

    def breaks(self) -> None:
        """An error in the middle of a request, as DEBUG shows it and as the log tells it."""
        self._rename(BROKEN_TABLE, "gone")
        try:
            authorized = {"Authorization": f"Bearer {self.key}"}
            page = self.browser.get(f"{self.base}/console/files?q={self.key}", headers=authorized)
            assert page.status_code == 500
            assert "Traceback" in page.text
            self.answers += [page.text, self._get("/v1/files", authorized)]
        finally:
            self._rename("gone", BROKEN_TABLE)

    def _rename(self, old: str, new: str) -> None:
        self.stack.shell(
            "from django.db import connection\n"
            f"with connection.cursor() as cursor: cursor.execute('ALTER TABLE {old} RENAME TO {new}')"
        )

    def _get(self, path: str, headers: Mapping[str, str]) -> str:
        return requests.get(f"{self.base}{path}", headers=headers, timeout=30).text

    def _send(self, raw: str) -> None:
        """What no client would send."""
        with socket.create_connection(("127.0.0.1", self.stack.port), timeout=10) as connection:
            connection.sendall(raw.encode("latin-1"))
            with contextlib.suppress(OSError):
                self.answers.append(connection.recv(65536).decode("latin-1"))

    # Where a secret could be

    def log(self) -> str:
        return self.stack.log.read_text()

    def files(self) -> Iterator[tuple[str, bytes]]:
        """The log, SQLite with its journal, every blob; not what is the secret's own place."""
        own_places = {"secret_key", "first_login"}
        for path in self.stack.folder.rglob("*"):
            if path.is_file() and path.name not in own_places and "static" not in path.parts:
                yield str(path.relative_to(self.stack.folder)), path.read_bytes()

    def tables(self) -> Iterator[tuple[str, bytes]]:
        """Of PostgreSQL; SQLite is a file."""
        url = self.stack.environment.get("DATABASE_URL")
        if not url:
            return
        with psycopg.connect(url) as connection:
            names = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
            for (name,) in names:
                with connection.cursor().copy(f'COPY "{name}" TO STDOUT') as copy:
                    yield name, b"".join(bytes(block) for block in copy)

    def queue(self) -> Iterator[tuple[str, bytes]]:
        with contextlib.closing(Redis.from_url(self.stack.redis_url())) as redis:
            for name in redis.scan_iter():
                yield f"redis {name!r}", name + (redis.dump(name) or b"")

    def pages(self) -> Iterator[tuple[str, bytes]]:
        """All that an administrator can open, with what is behind the links on it."""
        found = [f"/{route.path}" for route in routes.every() if _is_page(route)]
        seen = set(found)
        while found:
            path = found.pop()
            answer = self.browser.get(f"{self.base}{path}", timeout=30)
            yield path, answer.content
            if "text/html" in answer.headers.get("Content-Type", ""):
                links = {urlsplit(link).path for link in re.findall(r'href="(/(?:console|admin)/[^"?#]*)', answer.text)}
                deeper = {link for link in links if re.search(r"/(change|history|batches/[^/]+|files/[^/]+)/?$", link)}
                found += sorted(deeper - seen)
                seen |= deeper

    def commands(self) -> Iterator[tuple[str, bytes]]:
        for process in self.stack.processes():
            with contextlib.suppress(psutil.Error):
                yield f"command {process.pid}", " ".join(process.cmdline()).encode()


def _token(page: str) -> str:
    found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
    assert found is not None, page
    return found[1]


def _is_page(route: routes.Route) -> bool:
    plain = not re.search(r"[<(^]", route.path)
    return plain and route.path.startswith(("console/", "admin/")) and route.entry.name not in ("logout", "login")


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    folder: Path = tmp_path_factory.mktemp("canaries")
    with FakeUpstream() as upstream, Stack(folder, workers=1, **LOUD, **GIVEN) as stack:
        found = Installation(stack, upstream)
        found.runs_batches()
        found.is_asked_by_strangers()
        found.is_written_to_by_forgers()
        found.breaks()
        yield found


@pytest.mark.parametrize("where", ["files", "tables", "queue", "pages", "commands"])
def test_no_secret_is_found_where_it_does_not_belong(lived: Installation, where: str) -> None:
    found = [
        f"{name} in {place}"
        for place, content in getattr(lived, where)()
        for name, secret in lived.planted.items()
        if secret.encode() in content
    ]
    assert found == []


def test_nor_in_an_answer(lived: Installation) -> None:
    """To strangers, in an error, in the page that DEBUG shows, in an error line that an upstream wrote."""
    found = [name for name, secret in lived.planted.items() for answer in lived.answers if secret in answer]
    assert found == []
    assert len(lived.answers) > 5


def test_each_line_of_the_log_is_one_of_ours_and_paints_nothing(lived: Installation) -> None:
    lines = lived.log().splitlines()
    told = [json.loads(line) for line in lines if line.startswith("{")]
    assert not [one for one in told if one["event"] == "forged"]
    assert len(told) > 50
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]", lived.log())
    # What is no JSON is what `up` says at a start.
    assert not [line for line in lines if not line.startswith(("{", "Batchdesk is up", "The operator's login"))]


def test_the_search_would_find_one(lived: Installation) -> None:
    """What was put there on purpose: the hint that pages show, the id that the log has."""
    hint = f"{lived.key[:4]}…{lived.key[-4:]}".encode()
    assert any(hint in content for _, content in lived.pages())
    assert any(hint in content for _, content in [*lived.files(), *lived.tables()])
    assert "acme" in lived.log()
