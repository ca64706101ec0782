"""Tenants who go on with their work, whatever happens, by the unmodified SDK: they upload, create, look, cancel, delete
and download, and remember what they are owed."""

import random
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from threading import Event, Thread
from typing import Any, Literal

import openai
from openai import OpenAI

from tests.chaos.answers import LATE, Answers
from tests.chaos.ground import MODEL, Ground
from tests.chaos.parts import InParts
from tests.stack import CHAT, TERMINAL, request_line

ACCOUNTS = 20
SIZES = {"small": (1, 20), "middling": (50, 400), "large": (800, 2500)}
MIX = ["small", "middling", "small", "small", "large", "middling", "small", "middling", "small", "small"]
OPEN = 3  # batches of a tenant at the same time
RETRIES = 12  # of the SDK, of 0.5 to 8 s each

Kind = Literal["file", "batch", "upload"]


@dataclass(slots=True)
class Owed:
    """A batch that was created, and its custom_ids in order."""

    id: str
    custom_ids: list[str]
    cancelled: bool = False


class Tenant:
    def __init__(self, ground: Ground, number: int, seed: int, answers: Answers, stopped: Event) -> None:
        is_prepaid = number % 2 == 0
        account = ground.stack.manage("create_account", f"tenant-{number}", *["--prepaid"] * is_prepaid)
        if is_prepaid:
            ground.stack.manage("credit", f"tenant-{number}", "1000000", "--reason", "before the storm")
        hooks: dict[str, list[Callable[..., None]]] = {"request": [answers.expect], "response": [answers.note]}
        http = openai.DefaultHttpxClient(event_hooks=hooks, trust_env=False)
        self.client = OpenAI(
            base_url=ground.stack.base_url, api_key=account["key"], max_retries=RETRIES, http_client=http, timeout=LATE
        )
        self.size, self.chance = SIZES[MIX[number % len(MIX)]], random.Random(seed * 1_000 + number)
        self.owed: list[Owed] = []
        self.ids: dict[Kind, list[str]] = {"file": [], "batch": [], "upload": []}  # what others may hear of
        self.parts = InParts(self.client, self.chance, begun=self.ids["upload"])
        self.failures: list[str] = []  # calls that the SDK gave up
        self._number, self._stopped = number, stopped
        self.thread = Thread(target=self._work, name=f"tenant-{number}", daemon=True)

    def _work(self) -> None:
        while not self._stopped.wait(self.chance.uniform(0.2, 2.0)):
            try:
                self._one_thing()
            except openai.OpenAIError as error:
                self.failures.append(f"{type(error).__name__}: {error}"[:200])

    def _one_thing(self) -> None:
        batches = list(self.client.batches.list(limit=100).data)
        open_ = [batch for batch in batches if batch.status not in TERMINAL]
        if len(open_) < OPEN:
            self._create()
        elif self.chance.random() < 0.15:
            self._cancel(self.chance.choice(open_))
        elif batches and self.chance.random() < 0.3:
            self._read(self.chance.choice(batches))

    def _create(self) -> None:
        name = uuid.UUID(int=self.chance.getrandbits(128)).hex[:12]
        custom_ids = [f"{name}-{line}" for line in range(self.chance.randint(*self.size))]
        data = "\n".join(request_line(custom_id, f"cid:{custom_id} hello", MODEL) for custom_id in custom_ids)
        once = {"Idempotency-Key": name}
        file_id = self._upload(f"{name}.jsonl", data.encode(), once)
        batch = self.client.batches.create(
            input_file_id=file_id,
            endpoint=CHAT,  # type: ignore[arg-type]
            completion_window="24h",
            extra_headers=once,
        )
        self.owed.append(Owed(batch.id, custom_ids))
        self.ids["file"].append(file_id)
        self.ids["batch"].append(batch.id)
        if self.chance.random() < 0.2:
            self.client.files.delete(file_id)  # F6: the batch has its bytes

    def _upload(self, filename: str, data: bytes, once: dict[str, str]) -> str:
        if self.chance.random() < 0.2:
            self.parts.give_up(filename, data)  # and then begins anew
        if self.chance.random() < 0.4:
            return self.parts.send(filename, data)
        return self.client.files.create(file=(filename, data), purpose="batch", extra_headers=once).id

    def _cancel(self, batch: Any) -> None:
        with suppress(openai.ConflictError):
            self.client.batches.cancel(batch.id)
            for owed in self.owed:
                owed.cancelled |= owed.id == batch.id

    def _read(self, batch: Any) -> None:
        for file_id in (batch.output_file_id, batch.error_file_id):
            if file_id:
                self.ids["file"].append(file_id)
                self.client.files.content(file_id).read()


class Tenants:
    def __init__(self, ground: Ground, seed: int, accounts: int = ACCOUNTS) -> None:
        self._stopped, self.answers = Event(), Answers()
        self.all = [Tenant(ground, number, seed, self.answers, self._stopped) for number in range(accounts)]

    def start(self) -> None:
        for tenant in self.all:
            tenant.thread.start()

    def stop(self) -> None:
        """Each finishes the call that it is in."""
        self._stopped.set()
        deadline = time.monotonic() + 180
        for tenant in self.all:
            tenant.thread.join(max(0.1, deadline - time.monotonic()))

    def close(self) -> None:
        for tenant in self.all:
            tenant.client.close()
