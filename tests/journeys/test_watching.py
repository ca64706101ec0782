"""A real installation, watched: what its log, its readiness and its figures say of what happens to it."""

import json
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import openai
import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from tests.fake_upstream import FakeUpstream
from tests.stack import Stack, request_line, start_batch, until, wait_for

# What a tenant sends and gets, each in its own place
PROMPT, CUSTOM_ID, METADATA, FILENAME, ANSWER = (
    f"canary-{place}-0123456789" for place in ("prompt", "custom-id", "metadata", "filename", "answer")
)
CHECKS = ("database", "migrations", "blob_store", "redis")
PLANTED = (PROMPT, CUSTOM_ID, METADATA, FILENAME, ANSWER)


def line(number: int, model: str = "m", **body: Any) -> str:
    return request_line(f"{CUSTOM_ID}-{number}", f"cid:{number} {PROMPT}", model, **body)


def file_of(*lines: str) -> bytes:
    return "\n".join(lines).encode()


def logged(stack: Stack) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stack.log.read_text().splitlines() if line.startswith("{")]


def test_what_tenants_send_and_get_is_on_no_line_of_the_log(tmp_path: Path, upstream: FakeUpstream) -> None:
    """Whatever becomes of it: answered, refused, broken, cancelled, and of what fails in the middle of it."""
    with Stack(tmp_path, LOG_LEVEL="DEBUG", UPSTREAM_MAX_ATTEMPTS="2") as stack:
        stack.serve(upstream.url)
        client = stack.new_client("acme")
        key = client.api_key
        control = upstream.control
        control.set(match="cid:1 ", status=400, body=json.dumps({"error": {"message": f"{ANSWER}: {PROMPT}"}}))
        control.set(match="cid:2 ", status=500, body=f"{ANSWER} {PROMPT} {CUSTOM_ID}")
        control.set(match="cid:3 ", fault="html")
        control.set(match="cid:4 ", fault="truncated")
        control.set(match="cid:5 ", fault="reset", times=1)
        control.set(match="cid:6 ", usage={"prompt_tokens": -1, "completion_tokens": ANSWER})
        control.set(match="cid:9", status=429, headers={"Retry-After": ANSWER}, times=1)
        file = client.files.create(file=(f"{FILENAME}.jsonl", file_of(*map(line, range(10)))), purpose="batch")
        batch = client.batches.create(
            input_file_id=file.id,
            endpoint="/v1/chat/completions",
            completion_window="24h",
            metadata={"ds_name": METADATA},
        )
        ran = wait_for(client, batch)
        assert ran.request_counts.failed == 4

        # Refused by validation, line by line
        broken = file_of("{" + PROMPT, line(1), line(1), line(2, PROMPT), json.dumps({"custom_id": CUSTOM_ID, "x": 1}))
        refused = wait_for(client, start_batch(client, broken))
        assert CUSTOM_ID in refused.errors.to_json()

        # An error of ours in a stage, and one in a request: the bytes are gone
        file = client.files.create(file=(f"{FILENAME}.jsonl", file_of(line(1))), purpose="batch")
        shutil.rmtree(tmp_path / "blobs" / "files")
        doomed = client.batches.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"a": METADATA}
        )
        until(lambda: any(line.get("batch") == doomed.id and "exception" in line for line in logged(stack)))
        with pytest.raises(openai.APIStatusError):
            client.with_options(max_retries=0).files.content(ran.output_file_id)

        # Asked for in the wrong way
        bearer = {"Authorization": f"Bearer {key}"}
        with pytest.raises(openai.NotFoundError):
            client.batches.retrieve(CUSTOM_ID)
        for path in (f"batches/{PROMPT}", f"files?after={CUSTOM_ID}", f"{PROMPT}/x"):
            requests.get(f"{stack.base_url}/{path}", headers=bearer, timeout=10)
        requests.post(f"{stack.base_url}/batches", data=f'{{"{PROMPT}', headers=bearer, timeout=10)
        requests.get(f"{stack.base_url}/models", headers={"Authorization": f"Bearer {key}x"}, timeout=10)

        stack.stop()
        text = stack.log.read_text()
        assert [canary for canary in (*PLANTED, key) if canary in text] == []
        assert_told(stack, batch.id, doomed.id)


def assert_told(stack: Stack, batch_id: str, doomed_id: str) -> None:
    """What the log does have: each process's lines, in one way, each with what it is about."""
    lines = logged(stack)
    about = [line for line in lines if line["logger"] == "config.access_log" and line.get("batch") == batch_id]
    assert {(line["account"], line["route"], line["status"]) for line in about} == {
        ("acme", "v1/batches/<str:batch_id>", 200)
    }
    assert all(re.fullmatch("req_[0-9a-f]{32}", line["request_id"]) for line in about)
    failed = [line for line in lines if line.get("batch") == doomed_id and "exception" in line]
    assert {(line["logger"], line["account"]) for line in failed} == {("batches_app.queue", "acme")}
    assert "FileNotFoundError" in failed[0]["exception"]
    assert {"config.supervisor", "config.access_log", "batches_app.queue", "gunicorn.error"} <= {
        line["logger"] for line in lines
    }
    others = [line for line in stack.log.read_text().splitlines() if not line.startswith("{")]
    assert len(others) <= 4, others  # what `up` prints for who started it


def figures(stack: Stack) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = requests.get(f"http://127.0.0.1:{stack.port}/metrics", timeout=10).text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {(one.name.removeprefix("batchdesk_"), tuple(sorted(one.labels.items()))): one.value for one in samples}


def test_figures_tell_what_ran_and_agree_with_the_bill(stack: Stack, upstream: FakeUpstream) -> None:
    upstream.control.set(match="cid:3 ", status=500, times=1)
    stack.serve(upstream.url)
    client = stack.new_client()
    batch = wait_for(client, start_batch(client, file_of(*map(line, range(30)))))
    found, model = figures(stack), ("model", "m")
    assert found["lines_total", (model, ("result", "completed"))] == 30
    assert found["upstream_answers_total", (("kind", "ok"), model)] == 30
    assert found["upstream_answers_total", (("kind", "fault"), model)] == 1
    assert found["upstream_latency_seconds_count", (model,)] == 30
    assert found["tokens_total", (("kind", "output"), model)] == batch.usage.output_tokens
    cost = requests.get(
        f"{stack.base_url}/batches/{batch.id}", headers={"Authorization": f"Bearer {client.api_key}"}, timeout=10
    ).json()["cost"]
    assert found["charges_total", (("currency", "USD"), model)] == pytest.approx(float(cost["amount"]))
    assert found["checkpoints_total", (model,)] >= 1
    assert found["batches_ended_total", (("status", "completed"),)] == 1
    until(lambda: figures(stack).get(("reconciler_last_run_timestamp_seconds", ())))
    assert (found["database_up", ()], found["redis_up", ()]) == (1, 1)
    assert found["workers", (("queue", "lanes"), ("state", "idle"))] == 1


def test_redis_away_is_degraded_and_the_api_goes_on(stack: Stack) -> None:
    client, one_worker = stack.new_client(), requests.Session()  # of two, each finds out for itself

    def ready() -> requests.Response:
        return one_worker.get(f"http://127.0.0.1:{stack.port}/readyz", timeout=10)

    assert ready().json() == {"status": "ready", "checks": dict.fromkeys(CHECKS, "ok")}
    (redis,) = [process for process in stack.processes() if "redis" in process.name() or "valkey" in process.name()]
    redis.send_signal(signal.SIGSTOP)
    try:
        until(lambda: ready().json()["checks"]["redis"] == "away")
        assert (ready().status_code, ready().json()["status"]) == (200, "degraded")
        assert figures(stack)["redis_up", ()] == 0
        assert client.models.list() is not None
    finally:
        redis.send_signal(signal.SIGCONT)
    until(lambda: ready().json()["status"] == "ready")
