"""A stranger who has heard the ids of what tenants have, and tries them all through the storm: with an account of its
own, without a key, with a wrong one, with a revoked one. Each answer is to be that of an id that does not exist (C7).
"""

import random
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from threading import Event, Thread
from typing import Any, Literal

import requests
from openai import OpenAI

from tests.chaos.ground import Ground, session
from tests.chaos.tenants import RETRIES, Kind, Tenants
from tests.stack import CHAT

PAUSE = 0.15  # seconds
RECENT = 6  # of a tenant's ids: what is at work still
SETTLED_WITHIN = 60.0  # seconds
UNKNOWN: Mapping[Kind, str] = {
    "file": f"file-batch-{0:024x}",
    "batch": f"batch_{0:032x}",
    "upload": f"upload_{0:024x}",
}
NOT_ITS_OWN = "in_progress,finalizing,cancelling,completed,cancelled"  # no batch of a stranger's comes so far
INPUT = f'{{"input_file_id": "<id>", "endpoint": "{CHAT}", "completion_window": "24h"}}'
JSON = {"Content-Type": "application/json"}

Who = Literal["itself", "nobody", "a wrong key", "a revoked key"]
Told = tuple[int, str]  # status and text, but for what differs each time


@dataclass(frozen=True, slots=True)
class Attempt:
    """`<id>` in `path` and `json` is another's, and `status` what an unknown one gets."""

    method: str
    path: str
    of: Kind
    status: int = 404
    json: str = ""
    part: bytes = b""

    def send(self, session: requests.Session, base_url: str, id: str, headers: Mapping[str, str]) -> requests.Response:
        body: dict[str, Any] = {"files": {"data": self.part}} if self.part else {"data": self.json.replace("<id>", id)}
        headers = {**headers, **(JSON if self.json else {})}
        address = f"{base_url}/{self.path.replace('<id>', id)}"
        return session.request(self.method, address, headers=headers, timeout=15, **body)


ATTEMPTS = (
    Attempt("GET", "files", "file", 200),
    Attempt("GET", "files?after=<id>", "file", 400),
    Attempt("GET", "files/<id>", "file"),
    Attempt("GET", "files/<id>/content", "file"),
    Attempt("DELETE", "files/<id>", "file"),
    Attempt("GET", f"batches?status={NOT_ITS_OWN}", "batch", 200),
    Attempt("GET", f"batches?status={NOT_ITS_OWN}&input_file_ids=<id>", "file", 200),
    Attempt("GET", "batches?after=<id>", "batch", 400),
    Attempt("GET", "batches/<id>", "batch"),
    Attempt("POST", "batches/<id>/cancel", "batch"),
    Attempt("POST", "batches", "file", 200, json=INPUT),  # V11: it is created, and fails
    Attempt("POST", "batches/estimate", "file", json=INPUT),
    Attempt("POST", "uploads/<id>/parts", "upload", part=b"{}\n"),
    Attempt("POST", "uploads/<id>/complete", "upload", json='{"part_ids": ["part_x"]}'),
    Attempt("POST", "uploads/<id>/cancel", "upload"),
)


class Stranger:
    def __init__(self, ground: Ground, tenants: Tenants, seed: int) -> None:
        self._base_url, self._tenants, self._chance = ground.stack.base_url, tenants, random.Random(seed)
        self._key = ground.stack.manage("create_account", "stranger")["key"]
        self._headers = self._credentials(ground)
        self._session = session()
        self.counts: Counter[str] = Counter()
        self.findings: list[str] = []
        self._expected = {(attempt, who): self._learn(attempt, who) for attempt in ATTEMPTS for who in self._headers}
        self._stopped = Event()
        self._thread = Thread(target=self._work, name="stranger", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()
        self._session.close()

    def broken(self) -> Iterator[str]:
        """Each in a sentence."""
        yield from (f"A stranger got {what}: {count} times" for what, count in Counter(self.findings).items())
        with OpenAI(base_url=self._base_url, api_key=self._key, max_retries=RETRIES) as client:
            ends = _ends(client)
        if len(ends) != 1 or ends[0][:3] != ("failed", "invalid_request", "file_id"):
            yield f"A stranger's batches of others' files, and of one that does not exist, ended so: {ends}"

    def _credentials(self, ground: Ground) -> Mapping[Who, Mapping[str, str]]:
        revoked = ground.stack.manage("create_key", "stranger")
        ground.stack.manage("revoke_key", str(revoked["id"]))
        keys: Mapping[Who, str] = {
            "itself": self._key,
            "a wrong key": self._key[:-1] + ("a" if self._key[-1] != "a" else "b"),
            "a revoked key": revoked["key"],
        }
        return {"nobody": {}, **{who: {"Authorization": f"Bearer {key}"} for who, key in keys.items()}}

    def _learn(self, attempt: Attempt, who: Who) -> Told:
        """Before the storm: what there is to be told, of an id that does not exist."""
        id = UNKNOWN[attempt.of]
        told = _told(attempt.send(self._session, self._base_url, id, self._headers[who]), id)
        if told[0] != (attempt.status if who == "itself" else 401):
            self._note(attempt, who, told)
        return told

    def _work(self) -> None:
        while not self._stopped.wait(PAUSE):
            attempt, who = self._chance.choice(ATTEMPTS), self._chance.choice(["itself", *self._headers])
            heard = self._chance.choice(self._tenants.all).ids[attempt.of][-RECENT:]
            if heard:
                self.counts[self._try(attempt, who, self._chance.choice(heard))] += 1

    def _try(self, attempt: Attempt, who: Who, id: str) -> str:
        try:
            answer = attempt.send(self._session, self._base_url, id, self._headers[who])
        except requests.RequestException:
            return "not answered"
        if answer.status_code in (429, 503) and "retry-after" in answer.headers:
            return "put off"
        told = _told(answer, id)
        if told == self._expected[attempt, who]:
            return "refused"
        self._note(attempt, who, told)
        return "not refused"

    def _note(self, attempt: Attempt, who: Who, told: Told) -> None:
        self.findings.append(f"{told[0]} as {who} for {attempt.method} {attempt.path}, {told[1][:200]}")


def _told(answer: requests.Response, id: str) -> Told:
    text = re.sub(r'"id":"batch_\w+"', '"id":"<own>"', answer.text.replace(id, "<id>"))
    return answer.status_code, re.sub(r'"(\w+_at)":\d+', r'"\1":0', text)


def _ends(client: OpenAI) -> list[tuple[str, ...]]:
    """How its batches ended, each way once."""
    deadline = time.monotonic() + SETTLED_WITHIN
    while True:
        ends = {_end(batch) for batch in client.batches.list(limit=100)}
        if not any(end[0] == "validating" for end in ends) or time.monotonic() > deadline:
            return sorted(ends)
        time.sleep(1)


def _end(batch: Any) -> tuple[str, ...]:
    if batch.status != "failed":
        return (batch.status,)
    (error,) = batch.errors.data
    return batch.status, error.code, error.param, error.message.replace(batch.input_file_id, "<id>")
