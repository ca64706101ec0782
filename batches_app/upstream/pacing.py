"""How much to send to one model, and when: pure, times are monotonic seconds and passed in."""

import random
from collections.abc import Callable
from math import inf

from batches_app.upstream.client import Answer, Fault
from batches_app.upstream.retry import BACKOFF_BASE, Verdict, ceiling


class Pacer:
    """Adaptive concurrency (additive growth, halving) and pauses with probes for one lane, R4.

    What a request says is news only if the request was started after the last cut or the start of the pause: one
    congestion, which all requests then in flight report, is one halving; a request that an upstream took before its
    outage may end well in the middle of it.
    """

    def __init__(self, permits: int, chance: Callable[[], float] = random.random) -> None:
        self._permits = self._limit = max(1, permits)
        self._chance = chance
        self._credit = 0  # successes towards the next step of growth
        self._cut_at = self._paused_at = self._not_before = -inf
        self._setbacks = 0  # pushbacks, or probes in vain, in a row
        self._refusals = 0  # in a row, the first at:
        self._refused_at = -inf
        self._probing = False
        self._paused_since: float | None = None
        self._reason: str | None = None
        self._fresh = -inf

    @property
    def limit(self) -> int:
        return self._limit

    @property
    def permits(self) -> int:
        return self._permits

    @property
    def paused_since(self) -> float | None:
        """Monotonic start of the outage, None outside one."""
        return self._paused_since

    @property
    def reason(self) -> str | None:
        """Why less is sent than could be: of an outage, or of throttling since the last success."""
        return self._reason

    @property
    def fresh(self) -> float:
        """When the latest-started request that succeeded was started; -inf before the first."""
        return self._fresh

    def allowance(self, now: float, in_flight: int) -> int:
        """How many requests may be sent now; tell `sent` of those that were."""
        if now < self._not_before:
            return 0
        if self._paused_since is None:
            return max(0, self._limit - in_flight)
        # With nothing in flight the probe is gone, even if nobody said so: its line was aborted.
        return 0 if self._probing and in_flight else 1

    def next_at(self, now: float) -> float | None:
        """When the mere passing of time allows more; None where only an answer does."""
        return self._not_before if now < self._not_before else None

    def sent(self) -> None:
        self._probing = self._paused_since is not None

    def heed(self, verdict: Verdict, answer: Answer, now: float, retry_after: float | None) -> None:
        """Draws the consequence of a judged answer; `retry_after` in seconds."""
        if verdict is Verdict.PUSHBACK:
            self.pushed_back(now, answer.started, retry_after, answer.message)
        elif verdict is Verdict.OUTAGE:
            self.out(now, answer.started, answer.message, refused=bool(answer.status))
        elif verdict is Verdict.RETRY:
            slow = answer.fault is Fault.TIMEOUT or answer.status in (408, 504)
            (self.timed_out if slow else self.erred)(now, answer.started)
        elif verdict is Verdict.SUCCESS:
            self.succeeded(now, answer.started)
        else:
            self.answered(now, answer.started)

    def succeeded(self, now: float, started: float) -> None:
        self._fresh = max(self._fresh, started)
        self.answered(now, started)
        if started > self._cut_at and self._limit < self._permits:
            self._credit += 1
            if self._credit >= self._limit:
                self._limit, self._credit = self._limit + 1, 0

    def answered(self, now: float, started: float) -> None:
        """A line was judged on its own, if badly (400): the upstream works. That ends a pause, but earns no growth."""
        if started > self._refused_at:
            self._refusals = 0
        if self._is_news(started):
            self._resume()
            self._setbacks, self._reason = 0, None

    def erred(self, now: float, started: float) -> None:
        """A passing failure (500, a reset): as a probe's answer it does not end the pause."""
        if self._paused_since is not None and self._is_news(started):
            self._put_off(now)

    def timed_out(self, now: float, started: float) -> None:
        if self._paused_since is not None:
            self.erred(now, started)
        elif self._is_news(started):
            self._cut(now)

    def pushed_back(self, now: float, started: float, retry_after: float | None, reason: str) -> None:
        """Throttled: half as much at once, nothing before `retry_after` seconds or else a growing backoff."""
        if retry_after is not None:
            self._not_before = max(self._not_before, now + retry_after)
        if self._is_news(started):
            self._resume()  # it throttles, so it is there
            self._cut(now)
            self._reason = reason
            self._put_off(now, retry_after or 0.0)

    def out(self, now: float, started: float, reason: str, refused: bool = False) -> None:
        """An outage. `refused`: it came as an answer, perhaps the line's own; a working model is let a few of these."""
        if started <= self._paused_at or (refused and self._lets_pass(now)):
            return
        if self._paused_since is None:
            self._paused_since = self._paused_at = now
            self._setbacks = 0
        self._reason = reason
        self._put_off(now)

    def probe_now(self, now: float) -> None:
        """Ends a wait: the next request, in an outage the next probe, may be sent at once. It draws no conclusion."""
        self._not_before = min(self._not_before, now)

    def resize(self, permits: int) -> None:
        """The lane's permits have changed; a limit that was not cut follows at once."""
        uncut = self._limit == self._permits
        self._permits = max(1, permits)
        self._limit = self._permits if uncut else min(self._limit, self._permits)

    def _is_news(self, started: float) -> bool:
        return started > max(self._cut_at, self._paused_at)

    def _resume(self) -> None:
        self._paused_since = None
        self._probing = False

    def _cut(self, now: float) -> None:
        self._limit = max(1, self._limit // 2)
        self._cut_at, self._credit = now, 0

    def _put_off(self, now: float, asked: float = 0.0) -> None:
        self._setbacks += 1
        self._probing = False
        # Half of it is certain, unlike a line's full jitter: a dead upstream is not probed in a row of zeros.
        wait = ceiling(self._setbacks) * (0.5 + self._chance() / 2)
        # An upstream that asks for no wait at all ("Retry-After: 0") and throttles on is not taken at its word.
        self._not_before = max(self._not_before, now + (asked if asked >= BACKOFF_BASE else wait))

    def _lets_pass(self, now: float) -> bool:
        """Up to a quarter of the limit in a row, where something was answered well since the last pause."""
        if self._paused_since is not None or self._fresh <= self._paused_at:
            return False
        if not self._refusals:
            self._refused_at = now
        self._refusals += 1
        return self._refusals * 4 <= self._limit
