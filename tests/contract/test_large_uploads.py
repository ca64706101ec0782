"""F8 over real sockets."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
import requests
from openai import OpenAI

from tests.tenants import LINE, error_of

LIMIT = 524_288_000
MEMORY = 150_000_000
B = b"frontier"
HEAD = b"--%s\r\nContent-Disposition: form-data; name=%s\r\n\r\n"
FORM = HEAD % (B, b'"purpose"') + b"batch\r\n" + HEAD % (B, b'"file"; filename="in.jsonl"')
END = b"\r\n--%s--\r\n" % B


def sparse(folder: Path, size: int) -> Path:
    path = folder / "in.jsonl"
    with path.open("wb") as file:
        file.truncate(size)
    return path


def eventually_clean(server: Any, before: list[Path]) -> bool:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if sorted(server.disk()) == sorted(before):
            return True
        time.sleep(0.05)
    return False


def headers(server: Any) -> dict[str, str]:
    content_type = f"multipart/form-data; boundary={B.decode()}"
    return {"Authorization": f"Bearer {server.key('owner')}", "Content-Type": content_type}


def test_the_largest_file(server: Any, client: OpenAI, tmp_path: Path) -> None:
    """F8: 524,288,000 bytes come in and go out in flat memory (promise 4)."""
    with sparse(tmp_path, LIMIT).open("rb") as content:
        file = client.files.create(file=content, purpose="batch")
    assert file.bytes == LIMIT
    received = 0
    with client.files.with_streaming_response.content(file.id) as response:
        for chunk in response.iter_bytes(1024 * 1024):
            received += len(chunk)
    assert received == LIMIT
    assert server.memory() < MEMORY
    client.files.delete(file.id)


@pytest.mark.parametrize("size", [LIMIT + 100_000, 2_000_000_000])
def test_too_large(server: Any, client: OpenAI, tmp_path: Path, size: int) -> None:
    """F8: a Content-Length past the limit is refused at once, and the SDK, which is still sending, sees the 400."""
    before = server.disk()
    started = time.monotonic()
    with (
        sparse(tmp_path, size).open("rb") as content,
        pytest.raises(openai.BadRequestError, match="File is too large"),
    ):
        client.files.create(file=content, purpose="batch")
    assert time.monotonic() - started < 10
    assert server.disk() == before


def test_wrong_key_and_much_to_send(server: Any, tmp_path: Path) -> None:
    """401: a client that sends a large file with a wrong key learns of the key, not of a broken connection."""
    wrong = OpenAI(base_url=server.base_url, api_key="sk-wrongwrongwrong", max_retries=0)
    path = sparse(tmp_path, 300_000_000)
    with wrong, path.open("rb") as content, pytest.raises(openai.AuthenticationError):
        wrong.files.create(file=content, purpose="batch")


def test_too_large_without_a_length(server: Any) -> None:
    """F8: a chunked upload is refused as soon as the limit is passed, and leaves nothing behind."""
    before = server.disk()

    def body() -> Iterator[bytes]:
        yield FORM
        for _ in range(LIMIT // 1_000_000 + 40):
            yield bytes(1_000_000)
        yield END

    response = requests.post(f"{server.base_url}/files", data=body(), headers=headers(server), timeout=60)
    assert error_of(response, 400)["message"] == "File is too large."
    assert eventually_clean(server, before)
    assert server.memory() < MEMORY


def test_chunked(server: Any, client: OpenAI) -> None:
    """F1: a body of unknown length, as some clients stream it."""
    parts = iter([FORM, LINE, LINE, END])
    response = requests.post(f"{server.base_url}/files", data=parts, headers=headers(server), timeout=10)
    assert response.status_code == 200, response.text
    assert client.files.content(response.json()["id"]).read() == LINE * 2


def test_chunked_json(server: Any) -> None:
    """B1: so may JSON be."""
    body = b'{"input_file_id": "f", "endpoint": "/v1/embeddings", "completion_window": "24h"}'
    kinds = headers(server) | {"Content-Type": "application/json"}
    response = requests.post(f"{server.base_url}/batches", data=iter([body[:9], body[9:]]), headers=kinds, timeout=10)
    assert response.status_code == 200, response.text


@pytest.mark.parametrize("chunked", [False, True])
def test_aborted(server: Any, client: OpenAI, chunked: bool) -> None:
    """F8: a client that goes away half-way, even after its last boundary, leaves neither row nor bytes."""
    before, files = server.disk(), len(list(client.files.list()))
    for sent in (FORM, FORM + LINE * 100_000, FORM + LINE + END):
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(sent) + 50_000}"
            lines = [f"{name}: {value}" for name, value in headers(server).items()]
            start = "\r\n".join(["POST /v1/files HTTP/1.1", "Host: localhost", length, *lines]) + "\r\n\r\n"
            body = b"%x\r\n%s\r\n" % (len(sent), sent) if chunked else sent
            connection.sendall(start.encode() + body)
            time.sleep(0.1)
        assert eventually_clean(server, before)
    assert len(list(client.files.list())) == files


def test_connection_goes_on(server: Any) -> None:
    """An answer that came before its request's body was read does not spoil the next one on that connection."""
    with requests.Session() as session:
        for size in (10, 100_000, 3_000_000):
            response = session.post(f"{server.base_url}/nothing", data=bytes(size), timeout=10)
            error_of(response, 404)
            assert session.get(f"{server.base_url}/nothing", timeout=10).status_code == 404
