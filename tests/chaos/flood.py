"""A tenant who asks without end, far past its rate limit (B9). It is the only one who is refused for that."""

import time
from collections.abc import Iterator
from threading import Event, Thread

import requests

from tests.chaos.answers import MINUTE, tells_when
from tests.chaos.ground import Ground, session

PAUSE = 0.1  # seconds: six times what may be asked in a minute
PATH = "batches"  # what the tenants ask too, each with a limit of its own
LIMIT = 100
CALM = 7.0  # seconds, after which every process asks Redis again


class Flood:
    def __init__(self, ground: Ground) -> None:
        key = ground.stack.manage("create_account", "flood", "--rate-limit", f"batches.list={LIMIT}")["key"]
        self._url, self._ground = f"{ground.stack.base_url}/{PATH}", ground
        self._session = session(Authorization=f"Bearer {key}")
        self.asked, self.refused = 0, 0
        self.findings: list[str] = []
        self._ended = Event()
        self._thread = Thread(target=self._work, name="flood", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def calm_down(self) -> None:
        """The storm is over, and the limit is seen to be kept once more."""
        self._ended.set()

    def broken(self) -> list[str]:
        """Each in a sentence."""
        self._thread.join()
        self._session.close()
        return self.findings

    def _work(self) -> None:
        while not self._ended.wait(PAUSE):
            self._ask()
        time.sleep(CALM)
        self.findings += self._broken_in_the_calm()

    def _ask(self) -> int:
        """Returns the seconds that it is to wait."""
        try:
            answer = self._session.get(self._url, timeout=15)
        except requests.RequestException:
            return 0
        self.asked += 1
        if answer.status_code != 429:
            return 0
        self.refused += 1
        if not tells_when(answer):
            self.findings.append(f"A flood was refused with Retry-After: {answer.headers.get('retry-after')}")
            return 1
        return int(answer.headers["retry-after"])

    def _broken_in_the_calm(self) -> Iterator[str]:
        if not any(self._ask() for _ in range(2 * LIMIT)):
            yield f"A flood of {2 * LIMIT} requests was let in"
        began, refusals = time.monotonic(), 0
        while (seconds := self._ask()) and time.monotonic() - began < 2 * MINUTE:
            refusals += 1
            time.sleep(seconds)
        # A process that remembers the end of a window from before a FLUSHALL says that one, once.
        if refusals > len(self._ground.web_workers()) + 1 or time.monotonic() - began > MINUTE + 5:
            took = time.monotonic() - began
            yield f"A flood that waited as it was told was let in after {took:.0f} s and {refusals} refusals"
