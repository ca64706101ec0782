"""A real installation for tests and benchmarks: `manage.py up` on a data folder and a port of its own."""

import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

import psutil
import psycopg
from openai import OpenAI

logging.getLogger("httpx2").setLevel(logging.WARNING)  # the SDK logs each request, and tests poll

SQLITE = "batchdesk.sqlite3"
ROOT = Path(__file__).resolve().parent.parent
CHAT = "/v1/chat/completions"
TERMINAL = ("completed", "failed", "expired", "cancelled")
UNRUN = ("batch_cancelled", "batch_expired")


class Stack:
    """`like`: an installation that is not running, whose database this one begins with."""

    def __init__(self, folder: Path, like: "Stack | None" = None, /, *, workers: int = 1, **environment: str) -> None:
        self.folder, self.workers = folder, workers
        self.port = _free_port()
        self.base_url = f"http://127.0.0.1:{self.port}/v1"
        self.log = folder / "up.log"
        inherited = {name: value for name, value in os.environ.items() if name not in ("REDIS_URL", "DATABASE_URL")}
        database = os.environ.get("DATABASE_URL")
        own = {"DATABASE_URL": _new_database(database, like)} if database else {}
        if like and not database:
            shutil.copy(like.folder / SQLITE, folder)
        settings = {"DATA_DIR": str(folder), "DJANGO_SETTINGS_MODULE": "config.settings"}
        self.environment = inherited | own | settings | environment
        self._up: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Stack":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        command = [sys.executable, "manage.py", "up", "--port", str(self.port), "--workers", str(self.workers)]
        with self.log.open("ab") as log:
            self._up = subprocess.Popen(command, cwd=ROOT, env=self.environment, stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self._up.poll() is None:
            try:
                with urlopen(f"http://127.0.0.1:{self.port}/healthz", timeout=2):
                    return
            except OSError:
                time.sleep(0.1)
        self.stop()
        raise AssertionError(f"'up' did not start:\n{self.log.read_text()}")

    def stop(self) -> None:
        if self._up is not None and self._up.poll() is None:
            self._up.terminate()
            self._up.wait(60)

    def kill_everything(self) -> None:
        """kill -9 of every process at once, work-horses too."""
        assert self._up is not None
        up = psutil.Process(self._up.pid)
        for process in [up, *up.children(recursive=True)]:
            send(process, signal.SIGKILL)
        self._up.wait(10)

    def processes(self) -> list[psutil.Process]:
        assert self._up is not None
        up = psutil.Process(self._up.pid)
        return [up, *up.children(recursive=True)]

    def lane_workers(self) -> list[psutil.Process]:
        """The parents; their children are the work-horses."""
        return [process for process in self.workers_of("lanes") if not _is_horse(process)]

    def workers_of(self, queue: str) -> list[psutil.Process]:
        """Work-horses too."""
        return [process for process in self.processes() if runs(process, "rqworker", queue)]

    def lane_horses(self) -> list[psutil.Process]:
        return [horse for worker in self.lane_workers() for horse in children(worker)]

    def manage(self, *arguments: str, check: bool = True) -> Any:
        """Runs a management command with --json and returns what it printed."""
        return json.loads(self.run(*arguments, "--json", "--skip-checks", check=check))

    def run(self, *arguments: str, check: bool = True) -> str:
        """Runs a management command and returns what it printed."""
        done = self._run(arguments)
        assert not check or done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    def refused(self, *arguments: str) -> str:
        """Runs a management command that fails, and returns what it complained of."""
        done = self._run(arguments)
        assert done.returncode != 0, done.stdout
        return done.stderr

    def _run(self, arguments: Sequence[str]) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "manage.py", *arguments]
        return subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True)

    def shell(self, code: str) -> str:
        """Runs code in a Django shell of the installation and returns what it printed."""
        return self.run("shell", "-v", "0", "-c", code).strip()

    def redis_url(self) -> str:
        return f"unix://{self.folder / 'redis.sock'}?db=0"

    def new_client(self, name: str = "") -> OpenAI:
        account = self.manage("create_account", name or uuid.uuid4().hex)
        return OpenAI(base_url=self.base_url, api_key=account["key"], max_retries=5)

    def serve(self, upstream_url: str, model: str = "m", **options: str) -> None:
        given = {"endpoint": CHAT, "input-price": "0.15", "output-price": "0.60", "max-concurrency": "32"} | {
            name.replace("_", "-"): value for name, value in options.items()
        }
        flags = [part for name, value in given.items() for part in (f"--{name}", value)]
        self.manage("set_model", model, "--upstream-url", upstream_url, *flags)


def request_line(custom_id: str, content: str, model: str = "m", url: str = CHAT, **body: Any) -> str:
    message = {"model": model, "messages": [{"role": "user", "content": content}], **body}
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": url, "body": message}, ensure_ascii=False)


def chat_input(count: int, model: str = "m") -> bytes:
    """Lines `0` … whose content carries the fake upstream's marker."""
    return "\n".join(request_line(str(n), f"cid:{n} hello", model) for n in range(count)).encode()


def start_batch(client: OpenAI, data: bytes, *, endpoint: str = CHAT, window: str = "24h") -> Any:
    file = client.files.create(file=("requests.jsonl", data), purpose="batch")
    return client.batches.create(input_file_id=file.id, endpoint=endpoint, completion_window=window)  # type: ignore[arg-type]  # B2 allows more than the SDK's types


def wait_for(client: OpenAI, batch: Any, *statuses: str, seconds: float = 120) -> Any:
    wanted = statuses or TERMINAL
    deadline = time.monotonic() + seconds
    while batch.status not in wanted:
        assert time.monotonic() < deadline, f"still {batch.status} after {seconds} s: {batch.request_counts}"
        time.sleep(0.1)
        batch = client.batches.retrieve(batch.id)
    return batch


def until(holds: Callable[[], object], seconds: float = 30, every: float = 0.1) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(every)


def completed(client: OpenAI, batch: Any) -> int:
    counts = client.batches.retrieve(batch.id).request_counts
    return counts.completed if counts else 0


def result_lines(client: OpenAI, file_id: str | None) -> list[dict[str, Any]]:
    if not file_id:
        return []
    return [json.loads(line) for line in client.files.content(file_id).text.splitlines()]


def assert_whole(stack: Stack, client: OpenAI, batch: Any, custom_ids: list[str]) -> None:
    """Every custom_id in exactly one result line, each file in input order, counts and ledger in agreement."""
    output, errors = result_lines(client, batch.output_file_id), result_lines(client, batch.error_file_id)
    assert list(broken(batch, custom_ids, output, errors)) == []
    proof = stack.manage("billing_reconcile")
    assert (proof["differences"], proof["books"]) == ([], [])
    used = sum((line["response"]["body"].get("usage") or {}).get("completion_tokens", 0) for line in output)
    assert batch.usage.output_tokens == used


def broken(batch: Any, custom_ids: list[str], output: list[Any], errors: list[Any]) -> Iterator[str]:
    """What is wrong with a batch's results, each in a sentence."""
    order = {custom_id: number for number, custom_id in enumerate(custom_ids)}
    for name, lines in (("output", output), ("errors", errors)):
        places = [order.get(line["custom_id"], -1) for line in lines]
        if places != sorted(places):
            yield f"{batch.id}: {name} are not in input order"
    found = Counter(line["custom_id"] for line in [*output, *errors])
    for custom_id, count in (found - Counter(custom_ids)).items():
        yield f"{batch.id}: {count} results too many for {custom_id}"
    if lost := set(custom_ids) - set(found):
        yield f"{batch.id}: {len(lost)} of {len(custom_ids)} lines are lost ({batch.status})"
    failed = sum((line["error"] or {}).get("code") not in UNRUN for line in errors)
    counts = batch.request_counts.model_dump()
    if counts != {"total": len(custom_ids), "completed": len(output), "failed": failed}:
        yield f"{batch.id}: counts {counts}, but {len(output)} outputs and {failed} errors"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _new_database(server_url: str, like: Stack | None) -> str:
    name = f"stack_{uuid.uuid4().hex}"
    template = urlsplit(like.environment["DATABASE_URL"]).path.lstrip("/") if like else "template1"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    return urlsplit(server_url)._replace(path=f"/{name}").geturl()


def runs(process: psutil.Process, *words: str) -> bool:
    try:
        command = process.cmdline()
    except psutil.Error:
        return False
    return all(word in command for word in words)


def _is_horse(process: psutil.Process) -> bool:
    try:
        parent = process.parent()
    except psutil.Error:
        return False
    return parent is not None and runs(parent, "rqworker")


def children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return list(process.children())
    except psutil.Error:
        return []


def send(process: psutil.Process, number: int) -> None:
    try:
        process.send_signal(number)
    except psutil.Error:
        return
