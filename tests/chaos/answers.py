"""What the API answered to tenants, and whether it should have."""

import re
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

MINUTE = 60  # seconds: the window of a rate limit (B9)
LATE = 30  # seconds, after which a client gives an answer up: so much older than its answer may a request be
AN_ID = re.compile(r"/(file-|batch_|upload_)[^/]+")

Limited = tuple[str, str, str]  # what is counted together: a key, a method and a path


@dataclass(slots=True)
class Answers:
    """By status; and those that should not be, each in a line. `unjust`: refused, though no limit was reached."""

    counts: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    unjust: list[str] = field(default_factory=list)
    _sent: defaultdict[Limited, list[float]] = field(default_factory=lambda: defaultdict(list))
    _lock: Lock = field(default_factory=Lock)

    def expect(self, request: Any) -> None:
        with self._lock:
            self._sent[_limited(request)].append(time.monotonic())

    def note(self, response: Any) -> None:
        with self._lock:
            self.counts[response.status_code] += 1
            said = f"{response.request.method} {response.request.url.path}: {response.status_code}"
            if _is_wrong(response):
                self.wrong.append(said)
            if response.status_code == 429 and not self._is_just(response):
                self.unjust.append(said)

    def _is_just(self, response: Any) -> bool:
        """Only so many of one's own requests are a reason: those of others never are."""
        since = time.monotonic() - MINUTE - LATE
        own = sum(at > since for at in self._sent[_limited(response.request)])
        return own > int(response.headers["x-ratelimit-limit-requests"]) and tells_when(response)


def tells_when(response: Any) -> bool:
    """C4: a number of seconds, and not more than the window has."""
    seconds = response.headers.get("retry-after", "")
    return seconds.isdecimal() and 1 <= int(seconds) <= MINUTE


def _limited(request: Any) -> Limited:
    return request.headers["authorization"], request.method, AN_ID.sub("/*", request.url.path)


def _is_wrong(response: Any) -> bool:
    """Whatever is wrong with the installation, nothing is with what tenants ask."""
    status = response.status_code
    if status >= 500:
        return not (status == 503 and "retry-after" in response.headers)
    # To delete once more is a 404, where the first answer was lost.
    return status in (400, 401, 403) or (status == 404 and response.request.method != "DELETE")
