"""F10: an upload in parts is gone on with after kill -9 of the web process."""

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from openai import OpenAI

from tests.stack import Stack, assert_whole, request_line, until, wait_for

pytestmark = pytest.mark.once
PIECE = 1_000_000
ENDPOINT: Any = "/v1/chat/ds-test"  # of this service, and not in the SDK's types
SWEEP = """
from datetime import timedelta
from django.utils import timezone
from files_app import retention
from files_app.models import StoredFile
retention.remove_unheld(1000)
retention.sweep_orphans(timezone.now() + timedelta(hours=2))
print(StoredFile.objects.count())
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("stack"), ALLOW_INPUT_DOWNLOAD="1") as running:
        yield running


def kill_web(stack: Stack) -> None:
    """The parent and its workers, at once."""
    for process in stack.processes():
        if "gunicorn" in " ".join(_command(process)):
            process.kill()


def _command(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


def begin(client: OpenAI, content: bytes) -> Any:
    return client.uploads.create(
        filename="in.jsonl", purpose="batch", bytes=len(content), mime_type="application/jsonl"
    )


def send(
    client: OpenAI, upload: Any, content: bytes, between: Callable[[], None] = lambda: None, *, piece: int = PIECE
) -> list[str]:
    ids = []
    for start in range(0, len(content), piece):
        ids.append(client.uploads.parts.create(upload.id, data=content[start : start + piece]).id)
        between()
    return ids


def blobs(stack: Stack, folder: str) -> list[Path]:
    return [path for path in (stack.folder / "blobs" / folder).rglob("*") if path.is_file()]


def test_the_web_process_is_killed_between_parts(stack: Stack) -> None:
    """F10: what has come stays; the file is whole, and a batch runs on it."""
    client = stack.new_client()
    lines = [request_line(str(n), "x" * 60_000, "batch-test-model", ENDPOINT) for n in range(40)]
    content = "\n".join(lines).encode()
    upload = begin(client, content)
    done: Any = client.uploads.complete(
        upload.id, part_ids=send(client, upload, content, lambda: kill_web(stack)), md5=_md5(content)
    )
    batch = client.batches.create(input_file_id=done.file.id, endpoint=ENDPOINT, completion_window="24h")
    assert_whole(stack, client, wait_for(client, batch), [str(n) for n in range(40)])
    assert blobs(stack, "parts") == []


def test_the_web_process_is_killed_while_it_puts_the_parts_together(stack: Stack) -> None:
    """F10: the completion is called again, as the SDK does by itself; there is one file, and nothing else for ever."""
    client = stack.new_client()
    content = bytes(range(250)) * 600_000
    upload = begin(client, content)
    ids = send(client, upload, content, piece=25_000_000)
    with ThreadPoolExecutor(1) as pool:
        again = pool.submit(client.uploads.complete, upload.id, part_ids=ids, md5=_md5(content))
        until(lambda: any(path.stat().st_size for path in (stack.folder / "incoming").glob("*.upload")), every=0.002)
        kill_web(stack)
        done: Any = again.result()
    assert list((stack.folder / "incoming").iterdir())  # it died in the middle
    assert client.files.content(done.file.id).read() == content
    assert client.uploads.complete(upload.id, part_ids=ids, md5=_md5(content)) == done
    assert [file.id for file in client.files.list()] == [done.file.id]
    assert int(stack.shell(SWEEP)) == len(blobs(stack, "files"))
    assert (blobs(stack, "parts"), list((stack.folder / "incoming").iterdir())) == ([], [])
    assert stack.manage("billing_reconcile")["books"] == []


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
