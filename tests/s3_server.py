"""A server that speaks S3, in a process of its own, with one bucket. Of each object it makes a file."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

from tests.stack import until

BUCKET = "batchdesk"
# As boto3 finds them: this server does not check them, but without any nothing is sent.
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests"}


class S3Server:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bucket = folder / BUCKET
        self.bucket.mkdir()
        with socket.create_server(("127.0.0.1", 0)) as taken:
            self.port = taken.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = {
            **CREDENTIALS,
            "STORAGE_URL": f"s3://{BUCKET}?endpoint_url={self.url}&region_name=us-east-1",
        }
        self.log = folder.with_suffix(".log")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "S3Server":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        command = [sys.executable, "-m", "localbucket", str(self.folder), "--port", str(self.port)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        until(self._answers, every=0.05)

    def _answers(self) -> bool:
        try:
            with urlopen(self.url, timeout=2):
                return True
        except HTTPError:
            return True
        except OSError:
            return False

    def stop(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @contextmanager
    def away(self) -> Iterator[None]:
        self.stop()
        try:
            yield
        finally:
            self.start()

    @contextmanager
    def without_bucket(self) -> Iterator[None]:
        elsewhere = self.bucket.rename(self.folder.with_suffix(".away"))
        try:
            yield
        finally:
            elsewhere.rename(self.bucket)

    def has(self, *names: str, age: float = 0) -> None:
        """Objects that were stored `age` seconds ago."""
        for name in names:
            path = self.bucket / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")
            os.utime(path, (time.time() - age,) * 2)

    def clear(self) -> None:
        shutil.rmtree(self.bucket)
        self.bucket.mkdir()

    def objects(self) -> list[str]:
        """With the bucket's name; and what multipart uploads that did not end left behind."""
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file())

    def requests(self) -> list[str]:
        """Every one since it was made: method and path."""
        return re.findall(r'"(\S+ \S+) HTTP/1.1"', self.log.read_text())
