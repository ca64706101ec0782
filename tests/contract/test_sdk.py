"""The official SDK, as it is, with nothing but base_url and api_key changed."""

import io
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest
import requests
from openai import OpenAI

from tests.tenants import LINE, error_of

WINDOW: Any = "24h"


def upload(client: OpenAI, content: bytes = LINE, name: str = "in.jsonl", **options: Any) -> Any:
    return client.files.create(file=(name, io.BytesIO(content)), purpose="batch", **options)


def test_files(client: OpenAI) -> None:
    """F1, F2, F5, F6, F7: a file's life."""
    file = upload(client)
    assert (file.object, file.bytes, file.filename, file.purpose) == ("file", len(LINE), "in.jsonl", "batch")
    assert (file.status, file.expires_at) == ("processed", None)
    assert client.files.retrieve(file.id) == file
    assert file in list(client.files.list(limit=1))
    assert client.files.content(file.id).read() == LINE
    assert client.files.delete(file.id).deleted is True
    with pytest.raises(openai.NotFoundError, match=f"No such File object: {file.id}"):
        client.files.retrieve(file.id)


def test_bytes_without_a_name(client: OpenAI) -> None:
    """F1: bytes go as a file without an extension."""
    file = client.files.create(file=LINE, purpose="batch")
    assert file.filename == "upload"
    assert file.bytes == len(LINE)


def test_expiry(client: OpenAI) -> None:
    """F1: the SDK writes expires_after in flat keys."""
    file = upload(client, expires_after={"anchor": "created_at", "seconds": 3600})
    assert file.expires_at == file.created_at + 3600


def test_download_to_a_file(client: OpenAI, tmp_path: Any) -> None:
    """C3, F7: streaming helpers of the SDK, which accept application/binary only."""
    content = LINE * 50_000
    file = upload(client, content)
    with client.files.with_streaming_response.content(file.id) as response:
        response.stream_to_file(tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == content


def test_range(server: Any, client: OpenAI) -> None:
    """F7: a range over the wire is that range and not a byte more."""
    file = upload(client, LINE * 1000)
    headers = {"Authorization": f"Bearer {server.key('owner')}", "Range": "bytes=81-160"}
    with requests.Session() as session:
        url = f"{server.base_url}/files/{file.id}/content"
        for _ in range(2):  # on one connection: a byte too many would be the next answer's first
            part = session.get(url, headers=headers)
            assert (part.status_code, part.content) == (206, (LINE * 1000)[81:161])
        head = session.head(url, headers=headers | {"Range": ""})
        assert (head.headers["Content-Length"], head.content) == (str(len(LINE) * 1000), b"")


def test_batches(client: OpenAI) -> None:
    """B1, B6, B7, B8: a batch's life, as far as the API goes: there is no Redis, and no worker."""
    file = upload(client)
    made = client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window=WINDOW, metadata={"ds_name": "n"}
    )
    assert (made.status, made.input_file_id, made.metadata) == ("validating", file.id, {"ds_name": "n"})
    assert made.request_counts is not None
    assert made.request_counts.total == 0
    assert client.batches.retrieve(made.id) == made
    assert made.id in [batch.id for batch in client.batches.list(limit=1)]
    cancelled = client.batches.cancel(made.id)
    assert cancelled.status == "cancelling"
    assert client.batches.cancel(made.id) == cancelled


def test_paging(server: Any) -> None:
    """B7: the SDK pages by itself, and sees each batch once."""
    with server.client("pager") as client:
        made = [
            client.batches.create(input_file_id="f", endpoint="/v1/embeddings", completion_window=WINDOW).id
            for _ in range(5)
        ]
        assert [batch.id for batch in client.batches.list(limit=2)] == made[::-1]


def test_models(server: Any, client: OpenAI) -> None:
    """Models: ids with / and : survive the SDK's escaping."""
    assert client.models.list().object == "list"
    with pytest.raises(openai.NotFoundError, match="The model 'Qwen/Qwen3:8b' does not exist"):
        client.models.retrieve("Qwen/Qwen3:8b")


def test_errors(server: Any, client: OpenAI) -> None:
    """C1, C2, C4: the SDK's exceptions carry the envelope."""
    with pytest.raises(openai.BadRequestError) as raised:
        client.batches.create(input_file_id="f", endpoint="/v1/embeddings", completion_window="x")  # type: ignore[arg-type]  # wrong on purpose
    assert (raised.value.param, raised.value.code) == ("completion_window", "invalid_value")
    assert raised.value.request_id
    assert raised.value.request_id.startswith("req_")
    wrong = OpenAI(base_url=server.base_url, api_key="sk-wrongwrongwrong")
    with wrong, pytest.raises(openai.AuthenticationError, match="sk-w…rong"):
        wrong.files.list()


def test_rate_limit(server: Any) -> None:
    """B9, C4: over the limit the SDK raises RateLimitError, which says when to come again."""
    made = server.manage("create_account", "hasty", "--rate-limit", "models=1", "--json")
    server.keys["hasty"] = json.loads(made)["key"]
    with server.client("hasty") as client:
        first = client.models.with_raw_response.list()
        assert first.headers["x-ratelimit-limit-requests"] == "1"
        with pytest.raises(openai.RateLimitError, match="limit 1 requests per minute") as raised:
            [client.models.list() for _ in range(2)]  # there is no Redis: each of the two processes serves one
    assert (raised.value.type, raised.value.code) == ("requests", "rate_limit_exceeded")
    assert 0 < int(raised.value.response.headers["Retry-After"]) <= 60
    assert raised.value.response.headers["x-ratelimit-remaining-requests"] == "0"


def test_isolation(server: Any, client: OpenAI) -> None:
    """C7: another tenant's file is not there."""
    file = upload(client)
    with server.client("stranger") as stranger:
        for call in (stranger.files.retrieve, stranger.files.content, stranger.files.delete):
            with pytest.raises(openai.NotFoundError):
                call(file.id)
        assert list(stranger.files.list()) == []
    assert client.files.retrieve(file.id) == file


def test_idempotent_race(server: Any, client: OpenAI) -> None:
    """C5: of uploads and creations that race with one key, all get the one object."""
    before = len(server.disk())
    key = {"Idempotency-Key": "race"}

    def create(_: int) -> str:
        return client.batches.create(
            input_file_id="f",
            endpoint="/v1/embeddings",
            completion_window=WINDOW,
            extra_headers=key,
        ).id

    with ThreadPoolExecutor(8) as pool:
        assert len({file.id for file in pool.map(lambda _: upload(client, extra_headers=key), range(16))}) == 1
        assert len(set(pool.map(create, range(16)))) == 1
    assert len(server.disk()) == before + 1


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "nothing", 404), ("POST", "nothing/", 404), ("PUT", "files", 405), ("OPTIONS", "batches", 405)],
)
def test_raw_errors(server: Any, method: str, path: str, status: int) -> None:
    """C1, C2: on the wire, whatever is accepted."""
    headers = {"Authorization": f"Bearer {server.key('owner')}", "Accept": "text/html"}
    response = requests.request(method, f"{server.base_url}/{path}", headers=headers, timeout=10)
    error_of(response, status)
    assert response.headers["x-request-id"].startswith("req_")
    wrong_host = requests.request(method, f"{server.base_url}/{path}", headers=headers | {"Host": "evil"}, timeout=10)
    error_of(wrong_host, 400)
