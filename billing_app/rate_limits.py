"""B9: how many requests of one scope an account may make in a minute.

A window begins with its first request. It is counted in Redis, where all processes see it. While Redis does not
answer, each process counts for itself, and allows a part of the limit only: there are several processes.
"""

import logging
import math
import os
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from django.conf import settings
from django.db import Error
from limits.storage.redis import RedisStorage
from redis import ConnectionError, Redis
from redis.backoff import NoBackoff
from redis.connection import Connection, ConnectionPool, parse_url
from redis.retry import Retry

from billing_app import running_counts, side_writes
from billing_app.models import Account, RateLimit

logger = logging.getLogger(__name__)

MOST_WINDOWS = 10_000  # that a process remembers
FALLBACKS = "rate_limit_fallbacks"  # the running count: requests whose limit was decided without Redis


class Window(NamedTuple):
    used: int  # requests up to this one
    left: float  # seconds until it ends


class Verdict(NamedTuple):
    limit: int
    used: int
    retry_after: int  # seconds, rounded up

    @property
    def is_allowed(self) -> bool:
        return self.used <= self.limit

    @property
    def remaining(self) -> int:
        return max(0, self.limit - self.used)


def limits_of(account: Account) -> dict[str, int]:
    """By scope: the account's own where it has one."""
    own = RateLimit.objects.filter(account=account).values_list("scope", "per_minute")
    return settings.RATE_LIMITS | dict(own)


class Limiter:
    """Asks Redis first. After a failure it pauses, then lets one request ask again while the others do without.

    `tell` is given how many did so since the last time, and returns whether it took note.
    """

    def __init__(self, url: str, *, window: int, tell: Callable[[int], bool] = lambda _: True) -> None:
        self._url, self._window, self._tell = url, window, tell
        self._untold = 0
        self._redis: RedisWindows | None = None
        self._local = LocalWindows(window)
        self._retry_at: float | None = None  # None: Redis answers
        self._lock = threading.Lock()

    def hit(self, key: str, limit: int) -> Verdict:
        is_away = self._retry_at is not None
        if not is_away or self._is_time_to_retry():
            try:
                found = self._count_in_redis(key)
            except Exception as error:  # whatever the client raises: it may not cost the request
                self._note_failure(error)
                self._tell_fallbacks()
            else:
                if is_away:
                    self._note_return()
                    self._tell_fallbacks()
                return self._verdict(limit, found)
        with self._lock:
            self._untold += 1
        return self._verdict(min(limit, max(1, limit // settings.RATE_LIMIT_LOCAL_SHARE)), self._local.count(key))

    def _verdict(self, limit: int, window: Window) -> Verdict:
        return Verdict(limit, window.used, min(self._window, max(1, math.ceil(window.left))))

    def _count_in_redis(self, key: str) -> Window:
        if windows := self._redis:
            try:
                return windows.count(key)
            except ConnectionError:
                # Perhaps closed while it was idle: once more on a new one. (Not after a time-out: it may have counted.)
                pass
        self._redis = windows = RedisWindows(self._url, self._window)
        return windows.count(key)

    def _is_time_to_retry(self) -> bool:
        with self._lock:
            now = time.monotonic()
            if self._retry_at is not None and now < self._retry_at:
                return False
            self._retry_at = now + settings.RATE_LIMIT_REDIS_PAUSE
            return True

    def _note_failure(self, error: Exception) -> None:
        with self._lock:
            is_new = self._retry_at is None
            self._retry_at = time.monotonic() + settings.RATE_LIMIT_REDIS_PAUSE
            self._redis = None  # its connections, and its windows' ends: a Redis that restarts has forgotten them
        if is_new:
            logger.warning("Redis does not answer; rate limits are stricter and counted by process: %s", error)

    def _tell_fallbacks(self) -> None:
        """Not with each: in an outage there is one write every few seconds, and not one for each request."""
        with self._lock:
            telling, self._untold = self._untold, 0
        if telling and not self._tell(telling):
            with self._lock:
                self._untold += telling

    def _note_return(self) -> None:
        with self._lock:
            self._retry_at = None
        logger.info("Redis answers again; rate limits are counted there.")


class RedisWindows:
    def __init__(self, url: str, seconds: int) -> None:
        # Not through limits' own URLs: there, options in the URL win over ours, and unix:// has another name.
        options = parse_url(url) | _connection_options()  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
        pool = ThreadConnections(**options)
        self._client = Redis(connection_pool=pool)
        self._storage = RedisStorage(url, connection_pool=pool, key_prefix="rate")
        self._seconds = seconds
        self._ends: dict[str, float] = {}

    def count(self, key: str) -> Window:
        """One round trip; a second one where another process began the window, once in each."""
        used = self._storage.incr(key, self._seconds)
        now = time.monotonic()
        end = self._ends.get(key, 0.0)
        if used == 1:
            end = self._remember(key, now + self._seconds)
        elif end <= now:
            end = self._remember(key, now + self._left(key))
        # After a FLUSHALL, this may be the end of the window before: then it is early, and asked for when it is past.
        return Window(used, end - now)

    def _left(self, key: str) -> float:
        # Not limits' get_expiry, which is up to half a second early.
        return max(0, int(self._client.pttl(self._storage.prefixed_key(key)))) / 1000

    def _remember(self, key: str, end: float) -> float:
        if len(self._ends) >= MOST_WINDOWS:
            self._ends.clear()
        self._ends[key] = end
        return end


class ThreadConnections(ConnectionPool):
    """One for each thread: for a single short command, redis-py's pool takes longer than Redis does."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._own = threading.local()

    def get_connection(self, command_name: str | None = None, *keys: Any, **options: Any) -> Connection:
        try:
            connection: Connection = self._own.connection
        except AttributeError:
            connection = self._own.connection = self.connection_class(**self.connection_kwargs)
        return connection  # not connected yet, or no longer: to send does that

    def release(self, connection: Any) -> None:
        pass


class LocalWindows:
    """Not limits' MemoryStorage, which miscounts when threads race."""

    def __init__(self, seconds: int) -> None:
        self._seconds = seconds
        self._windows: dict[str, tuple[int, float]] = {}
        self._lock = threading.Lock()

    def count(self, key: str) -> Window:
        with self._lock:
            now = time.monotonic()
            used, end = self._windows.get(key, (0, 0.0))
            if end <= now:
                self._make_room(now)
                used, end = 0, now + self._seconds
            self._windows[key] = used + 1, end
        return Window(used + 1, end - now)

    def _make_room(self, now: float) -> None:
        if len(self._windows) >= MOST_WINDOWS:
            self._windows = {key: window for key, window in self._windows.items() if window[1] > now}
        if len(self._windows) >= MOST_WINDOWS:
            self._windows.clear()


def _connection_options() -> dict[str, object]:
    timeout = settings.RATE_LIMIT_REDIS_TIMEOUT
    return {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        "driver_info": None,  # its name and version cost a round trip each on a new connection
    }


_limiter: Limiter


def hit(account: Account, scope: str, limit: int) -> Verdict:
    return _limiter.hit(f"{account.pk}/{scope}", limit)


def _note_fallbacks(number: int) -> bool:
    try:
        with side_writes.no_waiting():
            running_counts.add(FALLBACKS, number)
    except Error:
        return False  # the database is busy, or away too
    return True


def forget() -> None:
    """Begins this process's memory anew."""
    global _limiter
    _limiter = Limiter(settings.REDIS_URL, window=settings.RATE_LIMIT_WINDOW, tell=_note_fallbacks)


forget()
os.register_at_fork(after_in_child=forget)  # two processes on one connection would read each other's answers
