"""The hostile corpus against one real installation. Each case with its answer is a row of answers.md.

Whatever is sent, it is answered as the contract says, costs no process more than 150 MB, and leaves nothing behind.
"""

import io
import json
import re
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from http.client import HTTPResponse
from pathlib import Path
from typing import Any, cast

import psutil
import pytest
import requests
from openai import OpenAI

from config.api.scopes import Scope
from tests.corpus.inputs import EMBEDDING_MODEL, EMBEDDINGS, ENDPOINT, INPUTS, LARGE, line
from tests.corpus.wire import BROKEN, Tenant, bodies, broken_off, sent
from tests.fake_upstream import FakeUpstream
from tests.stack import Stack, result_lines, wait_for

MEMORY = 150_000_000
ROW = re.compile(r"^\| ((?:[^|]|\\\|)+) \| ([^|]+) \|$", re.MULTILINE)
TABLE = (Path(__file__).parent / "answers.md").read_text()
NOT_ROWS = {("case", "answer"), ("---", "---")}


def answers(section: str) -> dict[str, str]:
    text = TABLE.split(f"\n## {section}\n")[1].split("\n## ")[0]
    rows = [(found[1].strip().strip("`"), found[2].strip()) for found in ROW.finditer(text)]
    named = [row for row in rows if row not in NOT_ROWS]
    assert len(dict(named)) == len(named), "a case is there twice"
    return dict(named)


class Memory(threading.Thread):
    """Watches what the web and the control processes had in memory at most, work-horses too."""

    def __init__(self, stack: Stack) -> None:
        super().__init__(daemon=True)
        self._stack = stack
        self._ended = threading.Event()
        self.most = {"web": 0, "control": 0}

    def run(self) -> None:
        while not self._ended.wait(0.1):
            for process in self._stack.processes():
                with suppress(psutil.Error, OSError):
                    words = process.cmdline()
                    kind = "web" if "gunicorn" in words else "control" if words[-1:] == ["control"] else ""
                    if kind:
                        self.most[kind] = max(self.most[kind], most_memory(process.pid))

    def stop(self) -> dict[str, int]:
        self._ended.set()
        self.join()
        return self.most


def most_memory(pid: int) -> int:
    """Since it began, in bytes: no peak is too short to be seen."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


class Desk:
    """An installation with one tenant."""

    def __init__(self, stack: Stack, upstream: FakeUpstream) -> None:
        self.stack = stack
        stack.serve(upstream.url, EMBEDDING_MODEL, endpoint=EMBEDDINGS)
        rates = [part for scope in Scope for part in ("--rate-limit", f"{scope}=1000000")]
        self.key = stack.manage("create_account", "corpus", *rates)["key"]
        self.client = OpenAI(base_url=stack.base_url, api_key=self.key, max_retries=0, timeout=120)
        self.http = requests.Session()
        self.http.headers["Authorization"] = f"Bearer {self.key}"

    def upload(self, content: Iterable[bytes]) -> Any:
        head = b'--f\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        head += b'--f\r\nContent-Disposition: form-data; name="file"; filename="in.jsonl"\r\n\r\n'

        def form() -> Iterator[bytes]:
            yield head
            yield from content
            yield b"\r\n--f--\r\n"

        kind = {"Content-Type": "multipart/form-data; boundary=f"}
        return self.http.post(f"{self.stack.base_url}/files", data=filter(None, form()), headers=kind, timeout=120)

    def batch_of(self, file_id: str, endpoint: str) -> Any:
        create: Any = self.client.batches.create  # whose types do not know the test endpoint
        return create(input_file_id=file_id, endpoint=endpoint, completion_window="24h")

    def outcome(self, batch: Any) -> str:
        batch = wait_for(self.client, batch, seconds=120)
        if batch.status == "failed":
            return f"fails: {_violations(batch.errors.data)}"
        lines = [*result_lines(self.client, batch.output_file_id), *result_lines(self.client, batch.error_file_id)]
        counts = batch.request_counts
        assert len({each["custom_id"] for each in lines}) == len(lines) == counts.total
        failed = f", {counts.failed} failed" if counts.failed else ""
        return f"{batch.status}: {counts.completed}{failed}"

    def delete_everything(self) -> None:
        for file in list(self.client.files.list()):
            self.client.files.delete(file.id)

    def disk(self) -> set[Path]:
        folders = (self.stack.folder / "incoming", self.stack.folder / "blobs")
        return {path for folder in folders for path in folder.rglob("*") if path.is_file()}

    def left(self) -> dict[str, int]:
        """Rows that stand for something that is still there."""
        return dict(json.loads(self.stack.shell(LEFT)))


LEFT = """
import json
from billing_app.models import Hold, Reservation, StorageUse
from files_app.models import MultipartUpload, StoredFile
use = StorageUse.objects.filter(account__name="corpus").values("files", "bytes", "pending_files", "pending_bytes")
print(json.dumps({
    "reservations": Reservation.objects.count(),
    "uploads": MultipartUpload.objects.filter(status="pending").count(),
    "files": StoredFile.objects.visible().count(),
    "holds": Hold.objects.count(),
    **(use.first() or {}),
}))
"""


def _violations(found: Any) -> str:
    told = [f"{one.code}{f' {one.param}' if one.param else ''}{f' on {one.line}' if one.line else ''}" for one in found]
    return "; ".join(told) if len(told) <= 6 else f"{len(told)} times {found[0].code}"


def exchanged(port: int, data: bytes) -> str:
    """What these bytes are answered with."""
    received = bytearray()
    with (
        socket.create_connection(("127.0.0.1", port), timeout=20) as connection,
        suppress(ConnectionError),  # what came before counts
    ):
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        while piece := connection.recv(65_536):
            received += piece
    return told(bytes(received))


def told(answer: bytes) -> str:
    """Status, code and param; of what is not under /v1 the status alone."""
    if not answer:
        return "nothing"
    response = HTTPResponse(cast(Any, Received(answer.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n"))))
    response.begin()
    body = response.read()
    assert response.headers["x-request-id"].startswith("req_")  # C2
    if response.status < 400:
        return str(response.status)
    if response.headers["Content-Type"].startswith("text/html"):
        return f"{response.status}, a page"
    error = json.loads(body)["error"]  # C1
    assert set(error) == {"message", "type", "param", "code"}
    return " ".join([str(response.status), *(error[name] for name in ("code", "param") if error[name])])


class Received:
    """What an HTTPResponse wants of a socket."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self._answer)


def nothing_new(desk: Desk, before: set[Path]) -> bool:
    """What goes meanwhile may go: the checkpoints of a batch that has just completed."""
    return eventually_equal(lambda: desk.disk() - before, set())


def eventually_equal(read: Any, expected: object, seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while read() != expected:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with FakeUpstream() as upstream, Stack(tmp_path_factory.mktemp("corpus"), ALLOW_INPUT_DOWNLOAD="1") as stack:
        yield Desk(stack, upstream)


@pytest.fixture(autouse=True)
def _nothing_is_left_and_no_process_grows(request: pytest.FixtureRequest) -> Iterator[None]:
    if "desk" not in request.fixturenames:
        yield
        return
    desk: Desk = request.getfixturevalue("desk")
    memory = Memory(desk.stack)
    memory.start()
    yield
    most = memory.stop()
    desk.delete_everything()
    assert set(desk.left().values()) == {0}
    assert eventually_equal(desk.disk, set(), seconds=30)
    assert 0 < min(most.values()) <= max(most.values()) < MEMORY, most
    log = desk.stack.log.read_text()
    assert "Traceback" not in log, log


def test_the_corpus_is_large_and_every_case_is_in_the_table() -> None:
    tenant = Tenant("k", "f", "b")
    cases = {name: set(found) for name, found in sent(tenant).items()}
    cases |= {"JSON": set(BROKEN), "input": set(INPUTS), "large": set(LARGE), "broken off": set(broken_off(tenant))}
    assert sum(map(len, cases.values())) >= 250
    for section, names in cases.items():
        assert set(answers(section)) == names, section


def test_input_files(desk: Desk) -> None:
    """V1-V11: from the upload to the results, or to every violation with its line."""
    batches = {}
    for name, content in INPUTS.items():
        endpoint = EMBEDDINGS if name.startswith("embeddings") else ENDPOINT
        file = desk.upload([content])
        assert file.status_code == 200, name  # F1: contents are not judged at upload
        batches[name] = desk.batch_of(file.json()["id"], endpoint)
    assert {name: desk.outcome(batch) for name, batch in batches.items()} == answers("input")


@pytest.mark.once
@pytest.mark.parametrize("name", LARGE)
def test_the_largest_files(desk: Desk, name: str) -> None:
    """F8, promise 4"""
    file = desk.upload(LARGE[name])
    found = told_by(file) if file.status_code != 200 else desk.outcome(desk.batch_of(file.json()["id"], ENDPOINT))
    assert found == answers("large")[name]


def told_by(response: Any) -> str:
    error = response.json()["error"]
    return " ".join([str(response.status_code), *(error[name] for name in ("code", "param") if error[name])])


@pytest.fixture
def tenant(desk: Desk) -> Tenant:
    file = desk.upload([line()]).json()["id"]
    batch = desk.batch_of(file, ENDPOINT)
    wait_for(desk.client, batch)
    return Tenant(desk.key, file, batch.id)


@pytest.mark.parametrize("section", ["form", "framing", "request", "value", "query"])
def test_requests(desk: Desk, tenant: Tenant, section: str) -> None:
    """C1, C2, C6, F8: what is refused leaves no byte."""
    before, batches = desk.disk(), len(list(desk.client.batches.list(limit=100)))
    found = {}
    for name, data in sent(tenant)[section].items():
        found[name] = exchanged(desk.stack.port, data)
        if not found[name].startswith("200"):
            assert nothing_new(desk, before), name
        before = desk.disk()
    assert found == answers(section)
    assert len(list(desk.client.batches.list(limit=100))) == batches


def test_json_that_is_none(desk: Desk, tenant: Tenant) -> None:
    """C6: wherever JSON is taken it is refused alike."""
    expected = answers("JSON")
    found = {case: exchanged(desk.stack.port, data) for case, data in bodies(tenant).items()}
    assert found == {(path, name): expected[name] for path, name in found}


def test_uploads_that_are_broken_off(desk: Desk, tenant: Tenant) -> None:
    """F8: neither row nor bytes, wherever the sender went away."""
    before, files = desk.disk(), len(list(desk.client.files.list()))
    for name, data in broken_off(tenant).items():
        with socket.create_connection(("127.0.0.1", desk.stack.port)) as connection:
            connection.sendall(data)
        assert answers("broken off")[name] == "nothing"
        assert nothing_new(desk, before), name
    assert len(list(desk.client.files.list())) == files
