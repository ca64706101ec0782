"""What browser tests look at: a real installation, with a past that is made up and a model that really works."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import requests
from openai import OpenAI

from tests.fake_upstream import FakeUpstream
from tests.stack import Stack

MODEL = "m"
ROLES = {"viewer": "vera", "operator": "olga", "billing": "bill", "administrator": "ada"}
# Lanes of models whose upstreams nobody has would take turns with the one that works.
PAUSE = """
from django.utils import timezone; from batches_app.models import Lane, ServedModel
ServedModel.objects.exclude(upstream_url="builtin").update(paused_at=timezone.now())
Lane.objects.update(lease_expires_at=None, owner="")
"""
_TOKEN = re.compile(r'name="csrfmiddlewaretoken" value="([^"]+)"')


class Installation:
    """`client` is a tenant's, of the account "Journeys"."""

    def __init__(self, stack: Stack, upstream: FakeUpstream, password: str) -> None:
        self.stack, self.upstream, self._password = stack, upstream, password
        self.address = f"http://127.0.0.1:{stack.port}"
        self._sessions: dict[str, str] = {}

    @cached_property
    def client(self) -> OpenAI:
        return self.stack.new_client("Journeys")

    def session(self, role: str) -> str:
        """The cookie of an operator who has signed in by the form."""
        if role not in self._sessions:
            with requests.Session() as browser:
                browser.trust_env = False  # a test may have set http_proxy
                login = f"{self.address}/console/login"
                token = _TOKEN.search(browser.get(login).text)
                assert token
                form = {"csrfmiddlewaretoken": token[1], "username": ROLES[role], "password": self._password}
                answer = browser.post(login, form, headers={"Referer": login}, allow_redirects=False)
                assert answer.status_code == 302, f"{role} cannot sign in"
                self._sessions[role] = browser.cookies["sessionid"]
        return self._sessions[role]

    def ask(self, code: str) -> Any:
        """What code, in a shell of the installation, prints as JSON."""
        return json.loads(self.stack.shell(f"import json\n{code}"))


@contextmanager
def running(folder: Path, *, batches: int, workers: int = 2, change: str = PAUSE) -> Iterator[Installation]:
    """`change`: code that is run before anybody works, with the address of the upstream that there is for `{url}`."""
    stack = Stack(folder, workers=workers, CANCEL_GRACE="1")
    stack.run("migrate")
    said = stack.run("seed_console", f"--batches={batches}", "--accounts=12")
    with FakeUpstream() as upstream:
        stack.shell(change.replace("{url}", upstream.url))
        stack.serve(upstream.url, MODEL)
        with stack:
            yield Installation(stack, upstream, said.rsplit(": ", 1)[1].strip())


@contextmanager
def new(folder: Path) -> Iterator[Installation]:
    """Where nothing has happened yet."""
    folder.mkdir()
    stack = Stack(folder)
    stack.run("migrate")
    password = stack.shell("from batches_app.seeding.cast import create_operators; print(create_operators())")
    with FakeUpstream() as upstream, stack:
        yield Installation(stack, upstream, password)
