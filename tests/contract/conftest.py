import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import urlopen

import psutil
import pytest
from openai import OpenAI

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Server:
    """gunicorn, as `manage.py up` runs it, on a data folder of its own. There is no Redis."""

    folder: Path
    port: int
    process: "subprocess.Popen[bytes] | None" = None
    keys: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        own = {"DATA_DIR": str(self.folder), "ALLOW_INPUT_DOWNLOAD": "1", "REDIS_URL": "redis://127.0.0.1:1/0"}
        kept = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
        return kept | own | {"DJANGO_SETTINGS_MODULE": "config.settings"}

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def manage(self, *arguments: str) -> str:
        command = [sys.executable, "manage.py", *arguments]
        return subprocess.run(
            command, cwd=ROOT, env=self.environment, check=True, capture_output=True, text=True
        ).stdout

    def key(self, account: str) -> str:
        if account not in self.keys:
            self.keys[account] = json.loads(self.manage("create_account", account, "--json"))["key"]
        return self.keys[account]

    def client(self, account: str = "owner") -> OpenAI:
        return OpenAI(base_url=self.base_url, api_key=self.key(account), max_retries=0, timeout=60)

    def start(self) -> None:
        self.manage("migrate", "--verbosity=0")
        command = [sys.executable, "-m", "gunicorn", "config.wsgi", "--workers=2"]
        command += ["--worker-class=config.web.worker.Worker", "--worker-tmp-dir=/dev/shm", "--graceful-timeout=10"]
        command += ["--threads=8", f"--bind=127.0.0.1:{self.port}", "--log-level=warning", "--no-control-socket"]
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, env=self.environment, stdout=log, stderr=log)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                with urlopen(f"http://127.0.0.1:{self.port}/healthz", timeout=2):
                    return
            except OSError:
                time.sleep(0.05)
        raise AssertionError((self.folder / "log").read_text())

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(20)

    def memory(self) -> int:
        """The largest process's, in bytes."""
        assert self.process is not None
        workers = psutil.Process(self.process.pid).children()
        return max(worker.memory_info().rss for worker in workers)

    def disk(self) -> list[Path]:
        """Every file that uploads have on the disk, finished or not."""
        folders = (self.folder / "incoming", self.folder / "blobs" / "files")
        return [path for folder in folders for path in folder.rglob("*") if path.is_file()]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    running = Server(tmp_path_factory.mktemp("server"), port)
    try:
        running.start()
        yield running
    finally:
        running.stop()


@pytest.fixture
def client(server: Server) -> Iterator[OpenAI]:
    with server.client() as client:
        yield client
