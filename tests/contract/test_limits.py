"""F8 and F9 at their real numbers, over real sockets."""

import http.client
import json
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import openai
import pytest

from tests.stack import SQLITE
from tests.tenants import LINE

pytestmark = pytest.mark.once
LIMIT = 524_288_000
SLACK = 64 * 1024  # what a form may hold besides the file
B = "frontier"
FORM = (
    f'--{B}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    f'--{B}\r\nContent-Disposition: form-data; name="file"; filename="in.jsonl"\r\n\r\n'
).encode()
END = f"\r\n--{B}--\r\n".encode()


def form(size: int) -> Iterator[bytes]:
    yield FORM
    for start in range(0, size, 1_000_000):
        yield bytes(min(1_000_000, size - start))
    yield END


def headers(server: Any, account: str = "limits", **others: str) -> dict[str, str]:
    content_type = f"multipart/form-data; boundary={B}"
    return {"Authorization": f"Bearer {server.key(account)}", "Content-Type": content_type, **others}


def ask(server: Any, sql: str) -> Any:
    with closing(sqlite3.connect(server.folder / SQLITE, timeout=30)) as database, database:
        return database.execute(sql).fetchone()


def eventually(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.02)
    return False


def nothing_is_pending(server: Any) -> bool:
    pending = ask(server, "SELECT total(pending_files), total(pending_bytes) FROM billing_app_storageuse")
    return bool(pending == (0, 0) and ask(server, "SELECT count(*) FROM billing_app_reservation") == (0,))


@pytest.mark.parametrize(
    ("chunked", "size", "status"), [(True, LIMIT, 200), (True, LIMIT + 1, 400), (False, LIMIT + 1, 400)]
)
def test_a_file_up_to_the_limit(server: Any, chunked: bool, size: int, status: int) -> None:
    """F8: 524,288,000 bytes, and not one more, whether the length is told or only found."""
    before = server.disk()
    length = {"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": str(len(FORM) + size + len(END))}
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)) as connection:
        connection.request("POST", "/v1/files", form(size), headers(server, **length), encode_chunked=chunked)
        response = connection.getresponse()
        answer = json.loads(response.read())
    assert response.status == status
    if status == 200:
        assert answer["bytes"] == size
        with server.client("limits") as client:
            client.files.delete(answer["id"])
    else:
        assert answer["error"]["message"] == "File is too large."
    assert eventually(lambda: server.disk() == before and nothing_is_pending(server))


@pytest.mark.parametrize(("length", "is_refused"), [(LIMIT + SLACK, False), (LIMIT + SLACK + 1, True)])
def test_a_length_that_no_file_within_the_limit_has(server: Any, length: int, is_refused: bool) -> None:
    """F8: is refused before a byte of the body has come."""
    lines = [f"{name}: {value}" for name, value in headers(server, **{"Content-Length": str(length)}).items()]
    with socket.create_connection(("127.0.0.1", server.port), timeout=0.5) as connection:
        connection.sendall("\r\n".join(["POST /v1/files HTTP/1.1", "Host: localhost", *lines, "", ""]).encode())
        if is_refused:
            assert connection.recv(100).startswith(b"HTTP/1.1 400")
        else:
            with pytest.raises(TimeoutError):
                connection.recv(100)
    assert eventually(lambda: nothing_is_pending(server))


def test_a_place_is_taken_from_the_first_byte_on_until_the_client_leaves(server: Any) -> None:
    """F8, F9: an upload under way has its place, and a broken one gives it back."""
    lines = [f"{name}: {value}" for name, value in headers(server, "full", **{"Content-Length": "200000"}).items()]
    ask(server, "UPDATE billing_app_account SET max_files = 1 WHERE name = 'full'")
    with server.client("full") as client:
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            start = "\r\n".join(["POST /v1/files HTTP/1.1", "Host: localhost", *lines, "", ""]).encode()
            connection.sendall(start + FORM + LINE)
            assert eventually(lambda: not nothing_is_pending(server))
            with pytest.raises(openai.PermissionDeniedError, match="may keep 1 files, and 1 are in use") as raised:
                client.files.create(file=LINE, purpose="batch")
            assert (raised.value.type, raised.value.code) == ("insufficient_quota", "quota_exceeded")
        assert eventually(lambda: nothing_is_pending(server))
        client.files.create(file=LINE, purpose="batch")
        with pytest.raises(openai.PermissionDeniedError):
            client.files.create(file=LINE, purpose="batch")


def test_uploads_race_for_the_last_places(server: Any) -> None:
    """F9: of 50 uploads racing for the last 10 places, 10 succeed, whichever process takes them."""
    with server.client("race") as client:
        ask(server, "UPDATE billing_app_account SET max_files = 10 WHERE name = 'race'")

        def upload(number: int) -> bool:
            try:
                return bool(client.files.create(file=LINE * 2_000 * (number % 3), purpose="batch"))
            except openai.PermissionDeniedError:
                return False

        with ThreadPoolExecutor(50) as pool:
            assert list(pool.map(upload, range(50))).count(True) == 10
        files = list(client.files.list())
    assert len(files) == 10
    kept = "SELECT files, bytes FROM billing_app_storageuse JOIN billing_app_account a ON a.id = account_id"
    assert ask(server, f"{kept} WHERE name = 'race'") == (10, sum(file.bytes for file in files))
    assert eventually(lambda: nothing_is_pending(server))
