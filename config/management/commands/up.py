import fcntl
import os
import secrets
import socket
import sys
from http.client import HTTPConnection, HTTPException
from multiprocessing import get_context
from pathlib import Path
from typing import IO, Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import OperationalError, connection
from redis import Redis, RedisError

from billing_app import api_keys, audit
from billing_app.models import Account
from config.env import BASE_DIR
from config.redis_server import NoRedisBinary, private_server
from config.supervisor import Program, Supervisor

MANAGE = [sys.executable, str(BASE_DIR / "manage.py")]
_IN_MEMORY = "/dev/shm"  # nosec B108  # gunicorn makes its files there as one should


class Command(BaseCommand):
    help = "Runs the whole service on this machine: web, workers, clock and, unless REDIS_URL is set, Redis."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--port", type=int, default=8000)
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--data", type=Path, help="folder for SQLite, files and keys (default: DATA_DIR)")
        parser.add_argument("--workers", type=int, default=2, help="how many lanes may run at the same time")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["data"]:
            _use_data_dir(options["data"].resolve())
        host, port = options["host"], options["port"]
        if not 1 <= port <= 65535 or options["workers"] < 1:
            raise CommandError("--port must be between 1 and 65535, and --workers at least 1.")
        _refuse_debug(host)
        lock = _lock(settings.DATA_DIR / "up.lock")
        _refuse_taken(host, port)
        _refuse_silent_redis(os.environ.get("REDIS_URL"))
        _migrate_apart()
        call_command("collectstatic", verbosity=0, interactive=False)
        programs = _programs(host, port, options["workers"])
        status = Supervisor(programs, on_ready=lambda: self._announce(host, port)).run()
        lock.close()
        sys.exit(status)

    def _announce(self, host: str, port: int) -> None:
        address = f"http://{_address(host, port)}"
        self.stdout.write(f"Batchdesk is up. API: {address}/v1   Console: {address}/")
        if not get_user_model().objects.exists() and not Account.objects.exists():
            password = secrets.token_urlsafe(12)
            user = get_user_model().objects.create_superuser("admin", password=password)
            account = Account.objects.create(name="default")
            _, key = api_keys.issue(account, name="first key")
            who = audit.from_shell("up")
            audit.record(actor=who, action="operator.created", target=user)
            audit.record(actor=who, action="account.created", target=account, account=account.name)
            self._hand_over(f"  operator  admin / {password}\n  API key   {key}  (account 'default')\n")
        self.stdout.flush()
        _leave_database()

    def _hand_over(self, secrets: str) -> None:
        """At a terminal. What is printed elsewhere, under systemd or in a container, is in a log for ever."""
        if self.stdout.isatty():
            self.stdout.write(f"Shown once, so keep them:\n{secrets}", ending="")
            return
        file = settings.DATA_DIR / "first_login"
        file.touch(mode=0o600)
        file.write_text(secrets)
        self.stdout.write(f"The operator's login and an API key are in {file}: take them, and delete it.")


def _use_data_dir(folder: Path) -> None:
    """Settings are read once, at the start: another data folder is another start."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise CommandError(f"--data {folder} cannot be used: {error.strerror}.") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise CommandError(f"--data {folder} cannot be used: it is not writable.")
    if folder != settings.DATA_DIR:
        os.environ["DATA_DIR"] = str(folder)
        os.execv(sys.executable, [sys.executable, *sys.argv])


def _refuse_debug(host: str) -> None:
    """Whoever reaches the port can say in the Host header what ALLOWED_HOSTS wants to hear."""
    if settings.DEBUG and host not in ("127.0.0.1", "::1", "localhost"):
        raise CommandError(f"DEBUG is for this machine alone, and others may reach --host {host}: unset one of them.")


def _lock(path: Path) -> IO[str]:
    file = path.open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise CommandError(f"Another 'up' is running on {path.parent}. Stop it, or choose another --data.") from None
    return file


def _refuse_taken(host: str, port: int) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise CommandError(f"Cannot listen on {host}:{port}: {error.strerror}. Choose another --port.") from None


def _refuse_silent_redis(url: str | None) -> None:
    try:
        if url and not _pings(url):
            raise CommandError("No Redis answers at REDIS_URL. Start it, or unset REDIS_URL to have one started here.")
    except ValueError as error:
        raise CommandError(f"REDIS_URL cannot be used: {error}") from None


def _migrate_apart() -> None:
    """In a process of its own: this one stays, and with it the 45 MB that a first migration takes."""
    process = get_context("fork").Process(target=_migrate)
    process.start()
    process.join()
    if process.exitcode:
        sys.exit(process.exitcode)


def _migrate() -> None:
    try:
        call_command("migrate", verbosity=0)
    except OperationalError as error:
        sys.exit(f"CommandError: The database cannot be used: {error}".strip())


def _leave_database() -> None:
    """The supervisor forks: no thread of a connection pool may run in it then."""
    connection.close()
    getattr(connection, "close_pool", lambda: None)()  # PostgreSQL's alone


def _programs(host: str, port: int, workers: int) -> list[Program]:
    environment = {**os.environ, "DATA_DIR": str(settings.DATA_DIR)}
    programs = [] if os.environ.get("REDIS_URL") else [_redis(environment)]
    web = [
        sys.executable,
        "-m",
        "gunicorn",
        "config.wsgi:application",
        "--bind",
        _address(host, port),
        "--no-control-socket",
    ]
    if Path(_IN_MEMORY).is_dir():
        web += ["--worker-tmp-dir", _IN_MEMORY]  # heartbeats: a busy disk must not look like a dead worker
    web += ["--worker-class", "config.web.worker.Worker", "--workers", "2", "--threads", "16", "--keep-alive", "75"]
    web += ["--graceful-timeout", "25", "--chdir", str(BASE_DIR)]
    web += ["--config", str(BASE_DIR / "gunicorn.conf.py")]
    # Without Django's checks, which have been run here: they load the whole web, in each of these processes.
    worker = [*MANAGE, "rqworker", "--skip-checks", "--worker-ttl", "60", "--verbosity", "0"]
    programs += [Program("control", [*worker, "control"], environment)]
    programs += [Program(f"lanes-{number}", [*worker, "lanes"], environment) for number in range(workers)]
    programs += [Program("cron", [*MANAGE, "cron", "--skip-checks"], environment)]
    return [*programs, Program("web", web, environment, is_ready=lambda: _answers(host, port))]


def _redis(environment: dict[str, str]) -> Program:
    try:
        server = private_server(settings.DATA_DIR)
    except NoRedisBinary as error:
        raise CommandError(str(error)) from None
    environment["REDIS_URL"] = server.url
    return Program("redis", server.command, is_ready=lambda: _pings(server.url), is_foundation=True)


def _pings(url: str) -> bool:
    try:
        return bool(Redis.from_url(url, socket_timeout=1).ping())
    except RedisError:
        return False


def _answers(host: str, port: int) -> bool:
    # Not urlopen, which would ask the proxy of the environment.
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # nosec  # nothing listens by this
    connection = HTTPConnection(reachable, port, timeout=2)
    try:
        connection.request("GET", "/healthz", headers={"Host": _allowed_host()})
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def _allowed_host() -> str:
    first = next(iter(settings.ALLOWED_HOSTS), "*").removeprefix(".")
    return "localhost" if first == "*" else first


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
