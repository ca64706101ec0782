"""`manage.py up` as it is run: real processes, a data folder and a port of their own."""

import fcntl
import socket
import subprocess
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import psutil
import pytest

from config.management.commands import up
from tests.stack import ROOT, Stack, start_batch, until, wait_for

pytestmark = pytest.mark.once
LINE = b'{"custom_id":"1","method":"POST","url":"/v1/chat/ds-test","body":{"model":"batch-test-model","messages":[]}}'


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("up")) as running:
        until(lambda: "API key" in running.log.read_text())
        yield running


def named(stack: Stack, *words: str) -> list[psutil.Process]:
    return [process for process in stack.processes() if all(word in _command(process) for word in words)]


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:  # it died meanwhile
        return ""


def refused(stack: Stack, *arguments: str, **environment: str) -> str:
    """What another `up` says before it ends; it must end, with a status that tells, and in one sentence."""
    command = [sys.executable, "manage.py", "up", *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env=stack.environment | environment, capture_output=True, text=True, timeout=30
    )
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def test_the_first_start_hands_over_an_operator_and_a_key_and_logs_neither(shared: Stack) -> None:
    said, file = shared.log.read_text(), shared.folder / "first_login"
    assert said.count(f"The operator's login and an API key are in {file}") == 1
    assert "sk-" not in said
    assert "operator  admin / " in file.read_text()
    assert "API key   sk-" in file.read_text()
    assert file.stat().st_mode & 0o077 == 0
    assert f"API: http://127.0.0.1:{shared.port}/v1" in said


def test_at_a_terminal_they_are_shown_and_kept_nowhere(settings: Any, tmp_path: Path) -> None:
    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    settings.DATA_DIR, out = tmp_path, Terminal()
    up.Command(stdout=out)._hand_over("  API key   sk-x\n")
    assert out.getvalue() == "Shown once, so keep them:\n  API key   sk-x\n"
    assert list(tmp_path.iterdir()) == []


def test_a_second_up_on_the_same_folder_is_refused(shared: Stack) -> None:
    assert "Another 'up' is running" in refused(shared, "--port", free_port())


def test_a_port_in_use_is_refused(shared: Stack, tmp_path: Path) -> None:
    said = refused(shared, "--port", str(shared.port), "--data", str(tmp_path))
    assert f"Cannot listen on 127.0.0.1:{shared.port}: Address already in use" in said


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--port", "99999"], "--port must be between 1 and 65535"),
        (["--port", "0"], "--port must be between 1 and 65535"),
        (["--workers", "0"], "--workers at least 1"),
        (["--data", "/dev/null/x"], "--data /dev/null/x cannot be used: Not a directory"),
    ],
)
def test_bad_arguments_get_a_sentence(shared: Stack, arguments: list[str], sentence: str) -> None:
    assert sentence in refused(shared, *arguments)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [("redis://127.0.0.1:1/0", "No Redis answers at REDIS_URL"), ("nonsense", "REDIS_URL cannot be used")],
)
def test_a_redis_that_cannot_be_used_gets_a_sentence(shared: Stack, tmp_path: Path, url: str, sentence: str) -> None:
    assert sentence in refused(shared, "--port", free_port(), "--data", str(tmp_path), REDIS_URL=url)


@pytest.mark.parametrize("words", [("redis-server",), ("rqworker", "control"), ("manage.py", "cron"), ("gunicorn",)])
def test_a_killed_child_is_replaced_and_a_batch_still_runs(shared: Stack, words: tuple[str, ...]) -> None:
    victim = named(shared, *words)[0]
    victim.kill()
    until(lambda: any(process.pid != victim.pid for process in named(shared, *words)))
    client = shared.new_client()
    batch = wait_for(client, start_batch(client, LINE, endpoint="/v1/chat/ds-test"), seconds=60)
    assert batch.status == "completed"


def test_two_run_side_by_side_and_a_drain_of_one_leaves_the_other(shared: Stack, tmp_path: Path) -> None:
    with Stack(tmp_path) as other:
        processes = other.processes()
        other.stop()
        assert other._up is not None
        assert other._up.returncode == 0
        assert not any(process.is_running() for process in processes)
    said = other.log.read_text()
    # Redis last: the others still write to it as they finish.
    assert said.rindex("redis exited") > max(said.rindex(f"{name} exited") for name in ("web", "control", "cron"))
    assert "did not stop in time" not in said
    assert shared.new_client().models.list() is not None


def test_a_killed_up_leaves_no_process_and_starts_again_without_new_secrets(tmp_path: Path) -> None:
    with Stack(tmp_path) as stack:
        until(lambda: "API key" in stack.log.read_text())
        _, *children = stack.processes()
        assert stack._up is not None
        stack._up.kill()
        stack._up.wait(10)
        until(lambda: not any(process.is_running() for process in children), seconds=5)
        with (tmp_path / "up.lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        stack.start()
        until(lambda: stack.log.read_text().count("Batchdesk is up") == 2)
        assert stack.log.read_text().count("The operator's login and an API key are in") == 1
