import json
import logging
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from django.core.management.base import BaseCommand, CommandError

from billing_app.pricing import Rates, Tokens, charge, list_amount
from config.env import BASE_DIR

logging.getLogger("httpx2").setLevel(logging.WARNING)  # the SDK logs each request

ENDPOINT, MODEL = "/v1/chat/ds-test", "batch-test-model"
QUESTIONS = ("Hello, batch!", "What is a lane?", "你好,世界", "Say it in one line.", "Thank you.")
SAMPLE = Rates(Decimal("0.15"), Decimal("0.60"), Decimal("0.5"))
MANAGE = [sys.executable, str(BASE_DIR / "manage.py")]


class Command(BaseCommand):
    help = "Starts a fresh service, runs one real batch through the OpenAI SDK, shows the bill, stops everything."

    def handle(self, *args: Any, **options: Any) -> None:
        with tempfile.TemporaryDirectory(prefix="batchdesk-demo-") as folder, _service(Path(folder)) as port:
            key = _new_account(Path(folder))
            batch = self._run_batch(f"http://127.0.0.1:{port}/v1", key, Path(folder))
            self._show_bill(batch)
            self.stdout.write(f"\nThe console was at http://127.0.0.1:{port}/ ; `make run` keeps it there.")

    def _run_batch(self, base_url: str, key: str, folder: Path) -> Any:
        from openai import OpenAI  # a demo dependency: the service itself runs without it

        client = OpenAI(base_url=base_url, api_key=key)
        path = folder / "requests.jsonl"
        path.write_text("".join(_line(number, text) for number, text in enumerate(QUESTIONS, 1)))
        uploaded = client.files.create(file=path, purpose="batch")
        self.stdout.write(f"uploaded     {uploaded.id}")
        batch = client.batches.create(input_file_id=uploaded.id, endpoint=ENDPOINT, completion_window="24h")  # type: ignore[arg-type]  # MV's endpoint
        self.stdout.write(f"created      {batch.id}")
        state = ""
        deadline = time.monotonic() + 60
        while state not in ("completed", "failed", "expired", "cancelled"):
            if time.monotonic() > deadline:
                raise CommandError(f"The batch was still {state} after 60 s.")
            batch = client.batches.retrieve(batch.id)
            if batch.status != state:
                state = batch.status
                self.stdout.write(f"state        {state}")
            time.sleep(0.05)
        if batch.output_file_id is None:
            raise CommandError(f"The batch ended as {state} without an output file: {batch.errors}")
        output = folder / "output.jsonl"
        client.files.content(batch.output_file_id).write_to_file(output)
        self.stdout.write("\n" + "\n".join(_shortened(text) for text in output.read_text().splitlines()))
        return batch

    def _show_bill(self, batch: Any) -> None:
        usage = batch.usage
        tokens = Tokens(usage.input_tokens, 0, usage.output_tokens, 0)
        self.stdout.write(
            f"\nThe bill     {usage.input_tokens} input + {usage.output_tokens} output tokens\n"
            f"             list price $0, charged $0: the test model is free\n"
            f"             at a sample price of $0.15 / $0.60 per million tokens:"
            f" list ${list_amount(tokens, SAMPLE):f}, half price ${charge(tokens, SAMPLE):f}"
        )


@contextmanager
def _service(folder: Path) -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = (folder / "up.log").open("wb")
    command = [*MANAGE, "up", "--port", str(port), "--data", str(folder), "--workers", "1"]
    environment = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "REDIS_URL")}
    up = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        _wait(up, port, folder / "up.log")
        yield port
    finally:
        up.terminate()
        up.wait(60)


def _wait(up: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    for _ in range(600):
        if up.poll() is not None:
            raise CommandError(f"The service did not start:\n{log.read_text()}")
        try:
            with urlopen(f"http://127.0.0.1:{port}/healthz", timeout=2):  # nosec B310  # our own address
                return
        except OSError:
            time.sleep(0.1)
    raise CommandError(f"The service did not answer within a minute:\n{log.read_text()}")


def _new_account(folder: Path) -> str:
    command = [*MANAGE, "create_account", "demo", "--json"]
    environment = {**os.environ, "DATA_DIR": str(folder)}
    done = subprocess.run(command, capture_output=True, check=True, env=environment)
    return str(json.loads(done.stdout)["key"])


def _line(number: int, text: str) -> str:
    body = {"model": MODEL, "messages": [{"role": "user", "content": text}]}
    return json.dumps({"custom_id": f"request-{number}", "method": "POST", "url": ENDPOINT, "body": body}) + "\n"


def _shortened(text: str) -> str:
    line = json.loads(text)
    said = line["response"]["body"]["choices"][0]["message"]["content"]
    return f"  {line['custom_id']}  {line['response']['status_code']}  {said}"
