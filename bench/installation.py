"""The installation that a part measures, the bare programs beside it, and large inputs."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from openai import OpenAI

from tests.stack import ROOT, Stack, request_line

LARGE_BYTES = 500_000_000
LARGE_LINES = 50_000
_WORDS = "The quick brown fox jumps over the lazy dog, and 敏捷的棕色狐狸跳过了懒狗。 "


@contextmanager
def installation(**environment: str) -> Iterator[tuple[Stack, OpenAI]]:
    with temporary_folder() as folder, Stack(folder, workers=1, **environment) as stack:
        yield stack, stack.new_client()


@contextmanager
def temporary_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="batchdesk-bench-") as name:
        yield Path(name)


def measured(module: str, *arguments: object) -> dict[str, Any]:
    """What a program of the bench, in a process of its own, prints as JSON."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    return dict(json.loads(done.stdout))


def durable_write(folder: Path, data: bytes, count: int = 1) -> float:
    """Seconds that this disk takes, at the least, to keep `data` so often: the floor under whatever is durable."""
    path = folder / "durable"
    start = time.monotonic()
    with path.open("wb") as file:
        for _ in range(count):
            file.write(data)
        file.flush()
        os.fsync(file.fileno())
    seconds = time.monotonic() - start
    path.unlink()
    return seconds


def write_large(path: Path) -> None:
    """500 MB in 50,000 lines of 10 KB, ASCII with some CJK."""
    _write(path, LARGE_LINES, LARGE_BYTES // LARGE_LINES)


def write_small(path: Path) -> None:
    """50,000 lines of 150 bytes."""
    _write(path, 50_000, 150)


def _write(path: Path, lines: int, size: int) -> None:
    head, tail = request_line("id-00000", "CONTENT").encode().split(b"CONTENT")
    room = size - len(head) - len(tail) - 1
    words = _WORDS.encode()
    # Whole runs, then ASCII, so that no character is cut.
    content = words * (room // len(words)) + b"x" * (room % len(words))
    line = head + content + tail + b"\n"
    with path.open("wb") as file:
        file.writelines(line.replace(b"id-00000", b"id-%05d" % number, 1) for number in range(lines))
