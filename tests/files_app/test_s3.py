"""Blobs in S3: the real django-storages and boto3 against a server that speaks S3."""

import errno
import os
import re
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import requests
from django.conf import settings as configured
from django.core.exceptions import ImproperlyConfigured
from django.core.files.storage import default_storage
from django.utils import timezone
from openai import OpenAI
from storages.backends.s3 import S3Storage

from billing_app.models import Reservation
from config import env
from files_app import blobs, bucket, retention
from files_app.models import StoredFile, UploadPart
from tests.fake_upstream import FakeUpstream
from tests.s3_server import BUCKET, CREDENTIALS, S3Server
from tests.stack import Stack, assert_whole, chat_input, completed, start_batch, until, wait_for
from tests.tenants import LINE, Tenant, error_of

pytestmark = pytest.mark.once
MB = 2**20
NAME = f"files/{timezone.now():%Y-%m-%d}/one"
OPERATIONS: dict[str, Callable[[], object]] = {
    "write": lambda: blobs.write("files", b"x"),
    "read": lambda: blobs.read(NAME),
    "read_range": lambda: blobs.read_range(NAME, 0, 1),
    "look": lambda: blobs.look(NAME),
    "stream": lambda: blobs.stream(NAME, range(1)),
    "modified_at": lambda: blobs.modified_at(NAME),
    "delete": lambda: blobs.delete(NAME),
    "names_in": lambda: blobs.names_in("files"),
    "folders_in": lambda: blobs.folders_in("files"),
    "try_to_ask": blobs.try_to_ask,
    "try_to_write": blobs.try_to_write,
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with S3Server(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture
def s3(server: S3Server, settings: Any, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The server, as this process's storage: empty, and running."""
    if not server.is_running():
        server.start()
    server.clear()
    use(server.environment["STORAGE_URL"], settings, monkeypatch)
    return server


def use(url: str, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    settings.STORAGES = {**settings.STORAGES, "default": env.storage(url, Path("nowhere"))}


def failure_of(operation: Callable[[], object]) -> OSError:
    with pytest.raises(OSError) as caught:  # noqa: PT011  # the callers look closer
        operation()
    return caught.value


@pytest.mark.parametrize("size", [0, 10, 20 * MB + 1])
def test_what_is_written_is_read(s3: S3Server, size: int) -> None:
    content, before = os.urandom(size), len(s3.requests())
    name = blobs.write("files", content)
    assert "uploadId" not in str(s3.requests()[before:])  # in one piece: a crash leaves no parts behind
    with blobs.read(name) as file:
        assert (file.size, file.read()) == (size, content)
    assert s3.objects() == [f"{BUCKET}/{name}"]


def test_what_is_very_large_is_sent_in_parts(s3: S3Server, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What tenants send goes in one piece: of that, no parts stay behind in a crash."""
    assert configured.MAX_FILE_BYTES < bucket.ONE_PIECE
    monkeypatch.setattr(bucket, "ONE_PIECE", 10 * MB)
    use(s3.environment["STORAGE_URL"], settings, monkeypatch)
    content = os.urandom(20 * MB + 1)
    name, requests = blobs.write("files", content), s3.requests()
    with blobs.read(name) as file:
        assert file.read() == content
    assert requests[-1].startswith(f"POST /{BUCKET}/{name}?uploadId=")
    assert s3.objects() == [f"{BUCKET}/{name}"]


def test_a_blob_is_read_from_any_place(s3: S3Server) -> None:
    with blobs.read(blobs.write("files", b"first\nsecond\nthird\n")) as file:
        file.seek(6)
        assert [file.readline(), file.read()] == [b"second\n", b"third\n"]
        assert file.fileno() > 0  # by which a download sends it


def test_of_a_range_no_more_is_asked_for(s3: S3Server) -> None:
    """A batch of 500 MB reads its input in some 200 ranges."""
    content = os.urandom(20 * MB)
    name = blobs.write("files", content)
    before = len(s3.requests())
    assert blobs.read_range(name, 9 * MB, 2000) == content[9 * MB :][:2000]
    assert blobs.read_range(name, 20 * MB - 5, 100) == content[-5:]
    assert s3.requests()[before:] == [f"GET /{BUCKET}/{name}"] * 2


def fetched(monkeypatch: pytest.MonkeyPatch) -> list[range]:
    """The ranges that are read from now on."""
    ranges, read = list[range](), bucket.Bucket.read_range

    def seen(self: bucket.Bucket, name: str, offset: int, size: int) -> bytes:
        ranges.append(range(offset, offset + size))
        return read(self, name, offset, size)

    monkeypatch.setattr(bucket.Bucket, "read_range", seen)
    return ranges


def test_of_what_is_looked_at_no_more_is_fetched(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines of 500 MB are shown a page at a time."""
    content = os.urandom(5 * MB + 1)
    name, ranges = blobs.write("files", content), fetched(monkeypatch)
    with blobs.look(name) as file:
        file.seek(3 * MB)
        assert file.read(10) + file.read(10) == content[3 * MB :][:20]
        file.seek(-5, os.SEEK_END)
        assert file.read(10) == content[-5:]
        assert ranges == [range(3 * MB, 4 * MB), range(5 * MB - 4, 5 * MB + 1)]
        file.seek(0)
        assert file.read() == content
        assert ranges[-1] == range(5 * MB + 1)
        assert file.read() == b""
    with blobs.look(blobs.write("files", b"")) as file:
        assert file.read() == b""


def test_f7_a_download_is_fetched_as_it_is_sent(s3: S3Server, owner: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    content = os.urandom(9 * MB)
    path, ranges = f"files/{owner.has_result(content).public_id}/content", fetched(monkeypatch)
    response = owner.get(path)
    assert ranges == [range(4 * MB)]
    assert b"".join(response.streaming_content) == content
    assert ranges == [range(4 * MB), range(4 * MB, 8 * MB), range(8 * MB, 9 * MB)]


def test_f7_of_a_download_that_goes_on_the_rest_is_fetched(
    s3: S3Server, owner: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = os.urandom(5 * MB)
    path, ranges = f"files/{owner.has_result(content).public_id}/content", fetched(monkeypatch)
    response = owner.get(path, Range=f"bytes={4 * MB}-")
    assert response.status_code == 206
    assert b"".join(response.streaming_content) == content[4 * MB :]
    assert ranges == [range(4 * MB, 5 * MB)]
    with s3.away():
        error_of(owner.get(path, Range=f"bytes={4 * MB}-"), 503)


def test_folders_and_names_are_listed_however_many(s3: S3Server) -> None:
    """S3 tells a thousand at a time."""
    s3.has(*(f"files/2026-11-01/{n}" for n in range(1200)), "files/2026-11-02/x", "parts/2026-11-01/y")
    assert len(blobs.names_in("files/2026-11-01")) == 1200
    assert blobs.names_in("files/2026-11-02") == ["x"]
    assert blobs.folders_in("files") == ["2026-11-01", "2026-11-02"]
    assert (blobs.names_in("files"), blobs.names_in("none"), blobs.folders_in("none")) == ([], [], [])


def test_a_folder_goes_with_what_is_in_it(s3: S3Server) -> None:
    s3.has("checkpoints/batch_1/a", "checkpoints/batch_1/b", "checkpoints/batch_12/c")
    blobs.delete_folder("checkpoints/batch_1")
    blobs.delete_folder("checkpoints/batch_1")
    assert s3.objects() == [f"{BUCKET}/checkpoints/batch_12/c"]


def test_what_is_not_there_is_not_found(s3: S3Server) -> None:
    blobs.delete(NAME)
    for operation in ("read", "read_range", "modified_at"):  # the latter while a sweep goes on
        assert isinstance(failure_of(OPERATIONS[operation]), FileNotFoundError)


def test_what_goes_while_it_is_opened_is_not_found(s3: S3Server) -> None:
    """django-storages asks whether it is there, and fetches it later."""
    s3.has(NAME)
    with after_the_first_look(lambda: blobs.delete(NAME)):
        assert isinstance(failure_of(OPERATIONS["read"]), FileNotFoundError)


def after_the_first_look(happens: Callable[[], object]) -> Any:
    really = S3Storage.open

    def opened(self: Any, name: str, mode: str) -> Any:
        file = really(self, name, mode)
        happens()
        return file

    return patch.object(S3Storage, "open", opened)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_bucket_that_is_missing_is_a_disk_that_fails(s3: S3Server, operation: str) -> None:
    """And no blob that is missing: whose bytes are said to be gone loses its row."""
    s3.has(NAME)
    with s3.without_bucket():
        assert failure_of(OPERATIONS[operation]).errno == errno.EIO
    assert s3.objects() == [f"{BUCKET}/{NAME}"]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_server_that_is_away_is_a_disk_that_fails(s3: S3Server, operation: str) -> None:
    s3.stop()
    assert failure_of(OPERATIONS[operation]).errno == errno.EIO


def test_a_server_that_says_nothing_is_not_waited_for(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lane waits for its checkpoint; were it to wait longer than its lease, its results would be for nothing."""
    longest = bucket.ATTEMPTS * max(bucket.CONNECT_TIMEOUT, bucket.SILENCE_TIMEOUT) + 1  # boto3's pause between them
    assert longest + configured.FLUSH_INTERVAL < configured.LANE_LEASE
    monkeypatch.setattr(bucket, "SILENCE_TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        use(f"s3://{BUCKET}?endpoint_url=http://127.0.0.1:{silent.getsockname()[1]}", settings, monkeypatch)
        begun = timezone.now()
        error = failure_of(OPERATIONS["write"])
    assert (error.errno, "ReadTimeoutError" in str(error)) == (errno.EIO, True)
    assert timezone.now() - begun < timedelta(seconds=bucket.ATTEMPTS * 7)


def test_threads_share_what_boto3_knows_of_s3(s3: S3Server) -> None:
    """A client takes 13 MB, and a web process has 16 threads."""
    storage: Any = default_storage
    mine = storage.connection
    with ThreadPoolExecutor(4) as threads:
        names = [*threads.map(lambda n: blobs.write("files", b"%d" % n), range(20))]
        assert threads.submit(lambda: storage.connection).result() is mine
    assert [blobs.read_range(name, 0, 9) for name in names] == [b"%d" % n for n in range(20)]


def test_options_are_known_or_refused(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the start, and not with the first upload."""
    use("s3://b?addressing_style=virtual&signature_version=s3v4&region_name=eu-west-1", settings, monkeypatch)
    config = default_storage.connection.meta.client.meta.config  # type: ignore[attr-defined]  # django-storages'
    assert (config.s3["addressing_style"], config.signature_version, config.region_name) == (
        "virtual",
        "s3v4",
        "eu-west-1",
    )
    with pytest.raises(ImproperlyConfigured, match="not 'endpoint'"):
        env.storage("s3://b?endpoint=http://127.0.0.1", Path("nowhere"))


def test_orphans_are_swept(s3: S3Server, owner: Tenant) -> None:
    kept, now = owner.has_file(), timezone.now()
    s3.has(NAME, f"parts/{now:%Y-%m-%d}/p", age=configured.ORPHAN_AGE + 60)
    s3.has(f"files/{now:%Y-%m-%d}/young")
    assert retention.sweep_orphans(now) == 2
    assert s3.objects() == sorted(f"{BUCKET}/{name}" for name in (kept.blob, f"files/{now:%Y-%m-%d}/young"))


@pytest.mark.parametrize("fault", ["away", "without_bucket"])
def test_an_upload_that_cannot_be_stored_leaves_nothing(s3: S3Server, owner: Tenant, fault: str) -> None:
    """C4, F8: SDKs are told to come again, and nothing of it stays."""
    upload = owner.announce().json()["id"]
    with getattr(s3, fault)():
        for response in (owner.upload(LINE * 90_000), owner.add_part(upload)):
            error_of(response, 503)
            assert int(response["Retry-After"]) > 0
    assert not StoredFile.objects.exists()
    assert not UploadPart.objects.exists()
    assert Reservation.objects.count() == 1  # what was announced
    assert s3.objects() == []
    assert [*configured.FILE_UPLOAD_TEMP_DIR.iterdir()] == []
    assert owner.upload().status_code == 200


@pytest.mark.parametrize("fault", ["away", "without_bucket"])
def test_a_download_that_cannot_be_had_is_no_fault_of_the_file(s3: S3Server, owner: Tenant, fault: str) -> None:
    """C4. Nor is the file gone, then."""
    path = f"files/{owner.has_result(LINE).public_id}/content"
    with getattr(s3, fault)():
        error_of(owner.get(path), 503)
    assert b"".join(owner.get(path).streaming_content) == LINE


def test_what_cannot_be_removed_is_removed_later(s3: S3Server, owner: Tenant) -> None:
    """F5, F6: the bytes count until they are gone."""
    file = owner.has_file()
    with s3.without_bucket():
        retention.delete_file(file, now=timezone.now())
        assert retention.remove_unheld(10) == 0
    assert s3.objects() == [f"{BUCKET}/{file.blob}"]
    assert retention.remove_unheld(10) == 1
    assert s3.objects() == []


@dataclass(frozen=True)
class Desk:
    stack: Stack
    storage: S3Server
    upstream: FakeUpstream
    client: OpenAI


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """An installation with a storage of its own."""
    storage = S3Server(tmp_path_factory.mktemp("s3-desk"))
    environment = {"ALLOW_INPUT_DOWNLOAD": "true", **storage.environment}
    with (
        FakeUpstream() as upstream,
        storage,
        Stack(tmp_path_factory.mktemp("desk"), workers=1, **environment) as stack,
    ):
        stack.serve(upstream.url)
        with stack.new_client() as client:
            yield Desk(stack, storage, upstream, client)


def test_from_upload_to_download(desk: Desk) -> None:
    """F1, F4, F5, F7, F10, B1: and in the end nothing is left in the bucket."""
    client, content = desk.client, chat_input(600)
    upload = client.uploads.upload_file_chunked(
        file=content,
        filename="in.jsonl",
        bytes=len(content),
        mime_type="application/jsonl",
        purpose="batch",
        part_size=50_000,
    )
    assert upload.file is not None
    created = client.batches.create(
        input_file_id=upload.file.id, endpoint="/v1/chat/completions", completion_window="24h"
    )
    batch = wait_for(client, created)
    assert batch.status == "completed"
    assert_whole(desk.stack, client, batch, [str(n) for n in range(600)])
    output = client.files.content(batch.output_file_id).content
    part = client.files.with_raw_response.content(batch.output_file_id, extra_headers={"Range": "bytes=1000-1999"})
    assert (part.status_code, part.content) == (206, output[1000:2000])
    until(lambda: len(desk.storage.objects()) == 2)  # parts and checkpoints have gone
    for file_id in (upload.file.id, batch.output_file_id):
        client.files.delete(file_id)
    assert desk.storage.objects() == []


def test_results_wait_for_a_storage_that_is_away(desk: Desk) -> None:
    """What was paid for is not paid for again."""
    desk.upstream.control.reset()
    desk.upstream.control.set(latency_ms=100)
    batch = start_batch(desk.client, chat_input(600))
    until(lambda: completed(desk.client, batch) > 0)
    with desk.storage.away():
        until(lambda: "cannot commit its results" in desk.stack.log.read_text())
    batch = wait_for(desk.client, batch)
    assert_whole(desk.stack, desk.client, batch, [str(n) for n in range(600)])
    assert set(desk.upstream.control.calls().values()) == {1}


def test_memory_does_not_grow_with_a_file(desk: Desk) -> None:
    """100 MB, up and down again."""
    content = os.urandom(1000) * 100_000
    file = desk.client.files.create(file=("large.jsonl", BytesIO(content)), purpose="batch")
    assert received(desk.client, file.id) == len(content)
    assert max(most_memory(process.pid) for process in desk.stack.processes()) < 150 * MB
    desk.client.files.delete(file.id)


def test_f7_a_download_that_the_storage_cuts_short_is_not_taken_for_whole(desk: Desk) -> None:
    content, had = os.urandom(1000) * 30_000, list[bytes]()
    file = desk.client.files.create(file=("large.jsonl", BytesIO(content)), purpose="batch")
    with download(desk, file.id) as response, desk.storage.away(), pytest.raises(requests.RequestException):
        had.extend(response.iter_content(MB))
    assert response.headers["Content-Length"] == str(len(content))
    begun = b"".join(had)
    assert 0 < len(begun) < len(content)
    assert begun + download(desk, file.id, Range=f"bytes={len(begun)}-").content == content
    desk.client.files.delete(file.id)


def download(desk: Desk, file_id: str, **headers: str) -> requests.Response:
    address, key = f"{desk.stack.base_url}/files/{file_id}/content", f"Bearer {desk.client.api_key}"
    return requests.get(address, headers={"Authorization": key, **headers}, stream=True, timeout=60)


def received(client: OpenAI, file_id: str) -> int:
    with client.files.with_streaming_response.content(file_id) as response:
        return sum(len(chunk) for chunk in response.iter_bytes(MB))


def most_memory(pid: int) -> int:
    """Since it began."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) * 1024 if found else 0
