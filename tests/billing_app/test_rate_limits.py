import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, connections
from django.test import Client
from django.test.utils import CaptureQueriesContext
from redis import Redis, RedisError, SSLConnection

from billing_app import api_keys, authentication, rate_limits, running_counts
from billing_app.models import RateLimit
from billing_app.rate_limits import Limiter, LocalWindows, RedisWindows
from billing_app.throttling import duration
from config.redis_server import private_server
from tests.tenants import Tenant, error_of

ROOT = Path(__file__).resolve().parents[2]
LIMIT, REMAINING, RESET = (f"x-ratelimit-{name}-requests" for name in ("limit", "remaining", "reset"))


class Server:
    """A Redis of its own, that tests stop and start."""

    def __init__(self, folder: Path) -> None:
        server = private_server(folder)
        self._command, self.url = server.command, server.url
        self.client = Redis.from_url(server.url)
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self._command)
        deadline = time.monotonic() + 10
        while True:
            try:
                self.client.ping()
                return
            except RedisError:
                assert time.monotonic() < deadline
                time.sleep(0.02)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)

    def calls(self, command: str) -> int:
        found = self.client.info("commandstats").get(f"cmdstat_{command}", {"calls": 0})
        return int(found["calls"])


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("r"))
    yield server
    server.client.close()
    server.stop()


@pytest.fixture
def redis(shared: Server, settings: Any) -> Server:
    """The service counts in it. It is patient: a machine under load is not an outage."""
    settings.REDIS_URL, settings.RATE_LIMIT_REDIS_TIMEOUT = shared.url, 10.0
    shared.client.flushall()
    shared.client.config_resetstat()
    rate_limits.forget()
    return shared


@pytest.fixture
def acme(db: None) -> Tenant:
    return Tenant("acme")


def own_limit(tenant: Tenant, scope: str, per_minute: int) -> None:
    RateLimit.objects.update_or_create(account=tenant.account, scope=scope, defaults={"per_minute": per_minute})
    authentication.forget()


def told() -> int:
    return running_counts.all_named().get(rate_limits.FALLBACKS, 0)


def fallbacks() -> int:
    """Of all processes, and what this one has yet to tell."""
    return told() + rate_limits._limiter._untold


def at_once(threads: int, work: Callable[[int], Any]) -> list[Any]:
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, range(threads)))


# The limit


def test_the_limit_and_not_one_more(acme: Tenant, redis: Server) -> None:
    """B9: of 150 lists in a minute, the first 100 are served."""
    answers = [acme.get("batches") for _ in range(150)]
    assert [answer.status_code for answer in answers] == [200] * 100 + [429] * 50
    assert [answers[n][REMAINING] for n in (0, 98, 99, 100)] == ["99", "1", "0", "0"]


@pytest.mark.django_db(transaction=True)
def test_a_storm(redis: Server) -> None:
    """B9: of 2,000 lists from 20 threads, exactly 100 are served."""
    key = Tenant("acme").key
    before = fallbacks()

    def storm(_: int) -> list[int]:
        client = Client(headers={"Authorization": f"Bearer {key}"})
        try:
            return [client.get("/v1/batches").status_code for _ in range(100)]
        finally:
            connections.close_all()

    statuses = [status for found in at_once(20, storm) for status in found]
    assert (statuses.count(200), statuses.count(429)) == (100, 1900)
    assert fallbacks() == before


FORK = """
import os, sys
import django; django.setup()
from django.conf import settings
from billing_app import rate_limits
from billing_app.models import Account
settings.REDIS_URL = sys.argv[1]
rate_limits.forget()
account = Account(pk=7)
rate_limits.hit(account, "x", 100)  # connected: the children must not talk on this connection
reader, writer = os.pipe()
children = [os.fork() for _ in range(4) if os.getpid() == int(os.environ.setdefault("PARENT", str(os.getpid())))]
if 0 in children:
    served = [rate_limits.hit(account, "x", 100).is_allowed for _ in range(50)]
    os.write(writer, b"y" * sum(served) + b"f" * rate_limits._limiter._untold)
    os._exit(0)
for child in children:
    os.waitpid(child, 0)
os.close(writer)
print(os.read(reader, 1000).decode())
"""


def test_forked_processes_share_it(redis: Server) -> None:
    """B9: gunicorn's workers are forks, and count together."""
    done = subprocess.run(
        [sys.executable, "-c", FORK, redis.url],
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "tests.settings"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "y" * 99


def test_each_account_and_each_scope_for_itself(acme: Tenant, redis: Server) -> None:
    """Promise 3: one tenant's requests cost no other, and lists cost no uploads."""
    other = Tenant("other")
    for tenant in (acme, other):
        own_limit(tenant, "files.list", 1)
    assert [acme.get("files").status_code for _ in range(2)] == [200, 429]
    assert other.get("files").status_code == 200
    assert acme.upload().status_code == 200
    assert acme.get("batches").status_code == 200


def test_an_accounts_keys_share_it(acme: Tenant, redis: Server) -> None:
    """B9 is for each account, whichever of its keys it uses."""
    own_limit(acme, "models", 1)
    assert acme.get("models").status_code == 200
    _, second = api_keys.issue(acme.account)
    assert Client().get("/v1/models", headers={"Authorization": f"Bearer {second}"}).status_code == 429


def test_models_are_one_scope(acme: Tenant, redis: Server) -> None:
    own_limit(acme, "models", 1)
    assert acme.get("models").status_code == 200
    assert acme.get("models/batch-test-model").status_code == 429


# An account's own limits


@pytest.mark.parametrize("own", [3, 120])
def test_a_limit_of_its_own(acme: Tenant, redis: Server, own: int) -> None:
    """B9: an account's limits are editable, up and down."""
    own_limit(acme, "batches.list", own)
    assert sum(acme.get("batches").status_code == 200 for _ in range(130)) == own


def test_an_edit_counts_what_was_used(acme: Tenant, redis: Server) -> None:
    own_limit(acme, "models", 2)
    assert [acme.get("models").status_code for _ in range(3)] == [200, 200, 429]
    own_limit(acme, "models", 4)
    assert [acme.get("models").status_code for _ in range(2)] == [200, 429]  # the third was asked, too


def test_nothing_is_allowed(acme: Tenant, redis: Server) -> None:
    """A limit of 0 still says how long it will be so at the least."""
    own_limit(acme, "models", 0)
    for _ in range(2):
        answer = acme.get("models")
        error_of(answer, 429)
        assert (answer[LIMIT], answer[REMAINING]) == ("0", "0")
        assert int(answer["Retry-After"]) in (59, 60)


def test_it_costs_no_query(acme: Tenant, redis: Server) -> None:
    """An account's own limits are remembered with its key."""
    own_limit(acme, "batches.retrieve", 500)
    batch = acme.has_batch()
    acme.get("models")
    with CaptureQueriesContext(connection) as queries:
        assert acme.get(f"batches/{batch.public_id}")[LIMIT] == "500"
    assert len(queries) == 1


# What the caller is told


def test_every_answer_says_what_is_left(acme: Tenant, redis: Server) -> None:
    """B9: the headers are on errors, refusals and downloads too."""
    ended = acme.has_batch(status="completed").public_id
    file = acme.has_result(b"{}\n").public_id
    own_limit(acme, "models", 0)
    answers = {
        200: acme.get("batches"),
        206: acme.get(f"files/{file}/content", Range="bytes=0-0"),
        400: acme.get("batches", {"limit": "x"}),
        404: acme.get("batches/batch_x"),
        409: acme.post(f"batches/{ended}/cancel"),
        405: acme.delete("batches"),
        415: acme.post("batches", raw=b"<a/>", content_type="text/xml"),
        429: acme.get("models"),
    }
    assert {status: answer.status_code for status, answer in answers.items()} == {status: status for status in answers}
    for answer in [*answers.values(), acme.get("files/%ff")]:
        assert int(answer[LIMIT]) >= int(answer[REMAINING]) >= 0
        assert answer[RESET] in ("1m0s", "59s", "58s")
        answer.close()


def test_an_unforeseen_error_says_so_too(acme: Tenant, redis: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("files_app.api.views._file", lambda *_: 1 / 0)
    answer = acme.get("files/x")
    error_of(answer, 500)
    assert answer[REMAINING] == "999"


def test_unknown_callers_are_told_nothing(redis: Server, db: None) -> None:
    """401 comes before limits: there is no account to count for."""
    assert LIMIT not in Client().get("/v1/models", headers={"Authorization": "Bearer sk-wrong"})


def test_head_counts_as_get(acme: Tenant, redis: Server) -> None:
    own_limit(acme, "models", 1)
    client = Client(headers={"Authorization": f"Bearer {acme.key}"})
    assert client.head("/v1/models")[REMAINING] == "0"
    assert acme.get("models").status_code == 429


def test_what_is_not_allowed_counts_as_well(acme: Tenant, redis: Server) -> None:
    """A 405 is an answer, and costs one."""
    own_limit(acme, "batches.list", 2)
    assert [acme.delete("batches").status_code for _ in range(3)] == [405, 405, 429]


def test_a_refusal(acme: Tenant, redis: Server) -> None:
    """429, C4: it names limit, scope and when to come again; SDKs may repeat it."""
    own_limit(acme, "batches.create", 1)
    acme.create_batch()
    answer = acme.create_batch()
    error = error_of(answer, 429)
    assert (error["type"], error["code"], error["param"]) == ("requests", "rate_limit_exceeded", None)
    seconds = int(answer["Retry-After"])
    assert seconds in (59, 60)
    assert error["message"] == (
        f"Rate limit reached for batches.create: limit 1 requests per minute. Please try again in {duration(seconds)}."
    )
    assert answer[RESET] == duration(seconds)
    assert "x-should-retry" not in answer


@pytest.mark.parametrize(("seconds", "text"), [(1, "1s"), (59, "59s"), (60, "1m0s"), (61, "1m1s"), (360, "6m0s")])
def test_duration(seconds: int, text: str) -> None:
    """B9: as OpenAI writes it."""
    assert duration(seconds) == text


# When the window ends


def test_retry_after_is_true(acme: Tenant, redis: Server, settings: Any) -> None:
    """C4: who comes again after Retry-After is served; a second earlier the window is still closed."""
    settings.RATE_LIMIT_WINDOW = 3
    rate_limits.forget()
    own_limit(acme, "models", 1)
    assert acme.get("models").status_code == 200
    time.sleep(0.3)
    refused = acme.get("models")
    told = time.monotonic()
    assert (refused.status_code, refused["Retry-After"]) == (429, "3")
    time.sleep(2.2)
    again = acme.get("models")
    assert (again.status_code, again["Retry-After"]) == (429, "1")
    time.sleep(told + 3 - time.monotonic())
    assert acme.get("models").status_code == 200
    assert acme.get("models").status_code == 429


def test_a_process_that_did_not_begin_the_window_knows_its_end(redis: Server) -> None:
    """To half a second, as Redis' TTL has it, would be too early."""
    first, second = (Limiter(redis.url, window=2) for _ in range(2))
    first.hit("k", 1)
    time.sleep(0.7)
    told = time.monotonic()
    verdict = second.hit("k", 1)
    assert (verdict.is_allowed, verdict.retry_after) == (False, 2)
    assert second.hit("k", 1).retry_after == 2
    time.sleep(told + 2 - time.monotonic())
    assert second.hit("k", 1) == (1, 1, 2)
    assert first.hit("k", 1).retry_after == 2


def test_one_round_trip(redis: Server) -> None:
    """The process that begins a window never asks for its end, and any other once."""
    first, second = (Limiter(redis.url, window=60) for _ in range(2))
    for limiter in (first, second):
        for _ in range(20):
            limiter.hit("k", 100)
    assert (redis.calls("evalsha"), redis.calls("pttl")) == (40, 1)


def test_every_key_ends(acme: Tenant, redis: Server) -> None:
    """Nothing stays in Redis, and no window stays closed."""
    for path in ("models", "batches", "files"):
        for _ in range(2):
            acme.get(path)
    assert {key.decode() for key in redis.client.scan_iter()} == {
        f"rate:{acme.account.pk}/{scope}" for scope in ("models", "batches.list", "files.list")
    }
    assert all(50_000 < redis.client.pttl(key) <= 60_000 for key in redis.client.scan_iter())


def test_memory_is_bounded(redis: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limits, "MOST_WINDOWS", 10)
    there, here = RedisWindows(redis.url, 60), LocalWindows(60)
    for number in range(55):
        there.count(str(number))
        here.count(str(number))
    assert len(there._ends) <= 10
    assert len(here._windows) <= 10
    assert there.count("1").left > 59  # forgotten here, known there


# Redis away


@pytest.fixture
def mortal(tmp_path_factory: pytest.TempPathFactory, settings: Any) -> Iterator[Server]:
    """The service counts in it, until the test stops it."""
    server = Server(tmp_path_factory.mktemp("r"))
    settings.REDIS_URL, settings.RATE_LIMIT_REDIS_PAUSE = server.url, 0.5
    rate_limits.forget()
    yield server
    server.process.send_signal(signal.SIGCONT)
    server.client.close()
    server.stop()


def test_redis_goes_and_comes_back(acme: Tenant, mortal: Server, caplog: pytest.LogCaptureFixture) -> None:
    """B9 without Redis: a stricter window in the process, counted, no 500, one line in the log; then as before."""
    before = fallbacks()
    caplog.set_level(logging.INFO, "billing_app.rate_limits")
    assert acme.get("batches")[LIMIT] == "100"
    mortal.stop()
    answers = [acme.get("batches") for _ in range(30)]
    assert [answer.status_code for answer in answers] == [200] * 25 + [429] * 5
    assert (answers[0][LIMIT], answers[0][REMAINING]) == ("25", "24")
    assert int(answers[-1]["Retry-After"]) in (59, 60)
    time.sleep(0.6)
    acme.get("batches")  # asks in vain
    assert fallbacks() - before == 31
    assert [record.levelname for record in caplog.records if record.name == "billing_app.rate_limits"] == ["WARNING"]

    mortal.start()
    time.sleep(0.6)
    assert [acme.get("batches")[REMAINING] for _ in range(2)] == ["99", "98"]
    assert (fallbacks() - before, told() - before) == (31, 31)
    mortal.stop()
    acme.get("batches")
    levels = [record.levelname for record in caplog.records if record.name == "billing_app.rate_limits"]
    assert levels == ["WARNING", "INFO", "WARNING"]


def test_a_redis_that_hangs_costs_one_request_its_time(mortal: Server, settings: Any) -> None:
    """A time-out, a pause, and then one request tries for all."""
    settings.RATE_LIMIT_REDIS_TIMEOUT = 0.3
    limiter = Limiter(mortal.url, window=60)

    def hit(_: int) -> float:
        started = time.monotonic()
        limiter.hit("k", 1000)
        return time.monotonic() - started

    hit(0)
    mortal.process.send_signal(signal.SIGSTOP)
    assert 0.3 <= hit(0) < 1
    assert sum(hit(0) for _ in range(50)) < 0.2
    time.sleep(0.6)
    assert sum(took >= 0.3 for took in at_once(10, hit)) == 1
    mortal.process.send_signal(signal.SIGCONT)
    time.sleep(0.6)
    assert limiter.hit("k", 1000).limit == 1000


def test_a_redis_without_memory(acme: Tenant, mortal: Server) -> None:
    """OOM is an error like any other."""
    mortal.client.config_set("maxmemory", 1)
    answer = acme.get("batches")
    assert (answer.status_code, answer[LIMIT]) == (200, "25")


@pytest.mark.parametrize("url", ["nonsense", "redis://127.0.0.1:1/0", "unix:///nowhere", "redis://nowhere.invalid"])
def test_a_wrong_url(acme: Tenant, settings: Any, url: str) -> None:
    settings.REDIS_URL = url
    rate_limits.forget()
    answer = acme.get("batches")
    assert (answer.status_code, answer[LIMIT]) == (200, "25")


@pytest.mark.parametrize(("limit", "served"), [(0, 0), (1, 1), (3, 1), (8, 2), (100, 25)])
def test_the_stricter_limit(limit: int, served: int) -> None:
    limiter = Limiter("nonsense", window=60)
    assert sum(limiter.hit("k", limit).is_allowed for _ in range(120)) == served


def test_no_thread_is_lost_in_a_local_window() -> None:
    interval, windows = sys.getswitchinterval(), LocalWindows(60)
    sys.setswitchinterval(1e-6)  # so that threads do meet
    try:
        for rounds in range(1, 11):
            at_once(8, lambda _: [windows.count("k") for _ in range(2_000)])
            assert windows.count("k").used == rounds * 16_001
    finally:
        sys.setswitchinterval(interval)


def test_a_local_window_ends() -> None:
    limiter = Limiter("nonsense", window=1)
    assert [limiter.hit("k", 4).is_allowed for _ in range(2)] == [True, False]
    assert limiter.hit("other", 4).is_allowed
    time.sleep(limiter.hit("k", 4).retry_after)
    assert [limiter.hit("k", 4).is_allowed for _ in range(2)] == [True, False]


def test_flushed(acme: Tenant, redis: Server) -> None:
    """FLUSHALL begins new windows, and an empty script cache is filled again; neither is an outage."""
    before = fallbacks()
    own_limit(acme, "models", 2)
    assert [acme.get("models").status_code for _ in range(3)] == [200, 200, 429]
    redis.client.flushall()
    redis.client.script_flush()
    assert [acme.get("models").status_code for _ in range(3)] == [200, 200, 429]
    assert fallbacks() == before


def test_a_connection_that_was_closed_while_idle(acme: Tenant, redis: Server) -> None:
    before = fallbacks()
    acme.get("models")
    redis.client.client_kill_filter(_type="normal", skipme=True)
    assert acme.get("models").status_code == 200
    assert fallbacks() == before


# Where Redis is


def test_a_socket_in_the_url(redis: Server) -> None:
    assert redis.url.startswith("unix:///")
    assert Limiter(redis.url, window=60).hit("k", 9) == (9, 1, 60)


def test_a_port_a_password_and_a_database_in_the_url(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    server = Server(folder)
    try:
        assert server.url.startswith("redis://:")
        url = server.url.removesuffix("/0") + "/3"
        assert [Limiter(url, window=60).hit("k", 9).used for _ in range(2)] == [1, 2]
        assert server.client.info("keyspace")["db3"]["keys"] == 1
    finally:
        server.client.close()
        server.stop()


def test_an_encrypted_url() -> None:
    assert RedisWindows("rediss://127.0.0.1:1/0", 60)._client.connection_pool.connection_class is SSLConnection


def test_a_timeout_in_the_url_is_not_ours(redis: Server, settings: Any) -> None:
    """RQ's workers may wait for long; a request may not."""
    settings.RATE_LIMIT_REDIS_TIMEOUT = 0.25
    windows = RedisWindows(f"{redis.url}&socket_timeout=30", 60)
    windows.count("k")
    assert windows._client.connection_pool.get_connection().socket_timeout == 0.25
