"""F10 with the official SDK, as it is."""

import asyncio
import hashlib
import io
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from tests.tenants import LINE

JSONL = "application/jsonl"
LARGEST = 524_288_000
MEMORY = 150_000_000
CONTENT = LINE * 5_000
PIECE = 100_000


def begin(client: OpenAI, size: int = len(CONTENT), **options: Any) -> Any:
    return client.uploads.create(filename="in.jsonl", purpose="batch", bytes=size, mime_type=JSONL, **options)


def pieces(content: bytes = CONTENT) -> list[bytes]:
    return [content[start : start + PIECE] for start in range(0, len(content), PIECE)]


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def test_an_upload_s_life(client: OpenAI) -> None:
    """F10: parts in parallel, put together in the order that is named; the file is one like any other."""
    upload = begin(client, expires_after={"anchor": "created_at", "seconds": 3600})
    assert (upload.object, upload.status, upload.bytes, upload.file) == ("upload", "pending", len(CONTENT), None)
    with ThreadPoolExecutor(8) as pool:
        parts = list(pool.map(lambda data: client.uploads.parts.create(upload.id, data=data), pieces()))
    assert {(part.object, part.upload_id) for part in parts} == {("upload.part", upload.id)}
    done = client.uploads.complete(upload.id, part_ids=[part.id for part in parts], md5=md5(CONTENT))
    assert (done.id, done.status) == (upload.id, "completed")
    assert done.file is not None
    assert done.file.expires_at == done.file.created_at + 3600
    assert client.files.retrieve(done.file.id) == done.file
    assert client.files.content(done.file.id).read() == CONTENT
    batch = client.batches.create(input_file_id=done.file.id, endpoint="/v1/chat/completions", completion_window="24h")
    assert batch.status == "validating"
    client.batches.cancel(batch.id)


def test_cancel(client: OpenAI) -> None:
    """F10: no part may be added any more."""
    upload = begin(client)
    client.uploads.parts.create(upload.id, data=io.BytesIO(LINE))
    assert client.uploads.cancel(upload.id).status == "cancelled"
    with pytest.raises(openai.BadRequestError, match="Cannot add a part to an upload with status 'cancelled'"):
        client.uploads.parts.create(upload.id, data=LINE)


def test_in_chunks_from_a_path(client: OpenAI, tmp_path: Path) -> None:
    """F10: the SDK's own loop."""
    path = tmp_path / "requests.jsonl"
    path.write_bytes(CONTENT)
    done = client.uploads.upload_file_chunked(
        file=path, mime_type=JSONL, purpose="batch", part_size=PIECE, md5=md5(CONTENT)
    )
    assert done.file is not None
    assert (done.file.filename, done.file.bytes) == ("requests.jsonl", len(CONTENT))
    assert client.files.content(done.file.id).read() == CONTENT


@pytest.mark.parametrize("content", [CONTENT, b""])
def test_in_chunks_from_memory(client: OpenAI, content: bytes) -> None:
    done = client.uploads.upload_file_chunked(
        file=content, filename="in.jsonl", bytes=len(content), mime_type=JSONL, purpose="batch"
    )
    assert done.file is not None
    assert client.files.content(done.file.id).read() == content


def test_in_chunks_asynchronously(server: Any, tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    path.write_bytes(CONTENT)

    async def upload() -> Any:
        async with AsyncOpenAI(base_url=server.base_url, api_key=server.key("owner"), max_retries=0) as client:
            return await client.uploads.upload_file_chunked(
                file=path, mime_type=JSONL, purpose="batch", part_size=PIECE
            )

    assert asyncio.run(upload()).file.bytes == len(CONTENT)


def test_errors(server: Any, client: OpenAI) -> None:
    """C1, C7: the SDK's exceptions, with a sentence that helps."""
    upload = begin(client)
    part = client.uploads.parts.create(upload.id, data=LINE)
    refused: tuple[tuple[Callable[[], Any], str], ...] = (
        (lambda: begin(client, LARGEST + 1), "File is too large."),
        (
            lambda: client.uploads.complete(upload.id, part_ids=[part.id]),
            f"{len(LINE)} bytes in all, but {len(CONTENT)}",
        ),
        (lambda: client.uploads.complete(upload.id, part_ids=["part_x"]), "no part 'part_x'"),
    )
    for call, message in refused:
        with pytest.raises(openai.BadRequestError, match=message):
            call()
    with server.client("stranger") as stranger:
        for call in calls(stranger, upload.id, part.id):
            with pytest.raises(openai.NotFoundError, match=f"No such Upload object: {upload.id}"):
                call()
    assert client.uploads.cancel(upload.id).status == "cancelled"


def calls(client: OpenAI, upload_id: str, part_id: str) -> tuple[Callable[[], Any], ...]:
    return (
        lambda: client.uploads.parts.create(upload_id, data=LINE),
        lambda: client.uploads.complete(upload_id, part_ids=[part_id]),
        lambda: client.uploads.cancel(upload_id),
    )


def test_a_part_that_is_too_large(server: Any, client: OpenAI) -> None:
    """F10: 67,108,864 bytes, and not one more; it leaves nothing behind."""
    upload = begin(client, LARGEST)
    with pytest.raises(openai.BadRequestError, match="67108864 bytes at most"):
        client.uploads.parts.create(upload.id, data=bytes(67_108_865))
    assert client.uploads.parts.create(upload.id, data=bytes(67_108_864)).upload_id == upload.id
    client.uploads.cancel(upload.id)
    assert parts_on(server) == []


@pytest.mark.once
def test_the_largest_file_in_parts(server: Any, tmp_path: Path) -> None:
    """F8, F10: 524,288,000 bytes in flat memory, while parts come in and while they are put together (promise 4)."""
    path = tmp_path / "in.jsonl"
    with path.open("wb") as file:
        file.truncate(LARGEST)
    with server.client("in parts") as client, peak_of(server) as peak:
        done = client.uploads.upload_file_chunked(file=path, mime_type=JSONL, purpose="batch")
        assert done.file is not None
        assert done.file.bytes == LARGEST
        client.files.delete(done.file.id)
    assert max(peak) < MEMORY
    assert parts_on(server) == []


@contextmanager
def peak_of(server: Any) -> Iterator[list[int]]:
    found, ended = [server.memory()], threading.Event()

    def look() -> None:
        while not ended.wait(0.02):
            found.append(server.memory())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()


def parts_on(server: Any) -> list[Path]:
    return [path for path in (server.folder / "blobs" / "parts").rglob("*") if path.is_file()]
