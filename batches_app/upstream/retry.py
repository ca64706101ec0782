"""R4: whose fault an answer is, and whether its line may be tried again. Pure: times and chance are passed in."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum

from batches_app.upstream.client import Answer, Fault

BACKOFF_BASE = 0.5
BACKOFF_CAP = 30.0
# A pause is cut short by nothing: an hour's Retry-After, or one meant in milliseconds, is asked about again after this.
RETRY_AFTER_CAP = 600.0

_PUSHBACK = {429, 503, 529}  # 529: "overloaded", as some hosted APIs say it
_OUTAGE = {401, 402, 403, 404, 405, 502, 521, 522, 523}  # 52x: a CDN that cannot reach the upstream behind it
_TRY_AGAIN = {408}
_DELTA_SECONDS = re.compile(r"[0-9]+(\.[0-9]*)?")


class Verdict(StrEnum):
    SUCCESS = "success"
    FAILED = "failed"  # the line's own failure: an error line now
    RETRY = "retry"  # the line's own, perhaps passing: again after a backoff; attempts are counted
    PUSHBACK = "pushback"  # the model throttles: less at once; the line goes back unburnt
    OUTAGE = "outage"  # the model is down or misconfigured: it pauses and probes; the line goes back unburnt


def judge(answer: Answer) -> Verdict:
    """R4. A 2xx is a SUCCESS here; whether its body is usable (R1) is the caller's to say."""
    if answer.fault:
        return _judge_fault(answer.fault)
    if 200 <= answer.status < 300:
        return Verdict.SUCCESS
    if answer.status in _PUSHBACK:
        return Verdict.PUSHBACK
    if answer.status in _OUTAGE:
        return Verdict.OUTAGE
    return Verdict.RETRY if answer.status >= 500 or answer.status in _TRY_AGAIN else Verdict.FAILED


def _judge_fault(fault: Fault) -> Verdict:
    if fault is Fault.CONNECT:
        return Verdict.OUTAGE
    return Verdict.FAILED if fault is Fault.TOO_LARGE else Verdict.RETRY


def parse_retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds to wait, 0 to RETRY_AFTER_CAP, from delta-seconds or an HTTP-date; None for anything else.

    `now` is an aware datetime.
    """
    text = (value or "").strip()
    if _DELTA_SECONDS.fullmatch(text):
        return min(float(text), RETRY_AFTER_CAP)
    try:
        moment = parsedate_to_datetime(text)
        seconds = ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - now).total_seconds()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return min(max(seconds, 0.0), RETRY_AFTER_CAP)


def ceiling(attempt: int) -> float:
    """Seconds: BACKOFF_BASE doubled with every attempt after the first, up to BACKOFF_CAP."""
    return min(BACKOFF_BASE * 2.0 ** min(max(attempt, 1) - 1, 32), BACKOFF_CAP)


def backoff(attempt: int, random: Callable[[], float]) -> float:
    """Seconds before a line's next try after its `attempt`-th failure, from 1; full jitter, `random` gives [0, 1)."""
    return ceiling(attempt) * random()


@dataclass(frozen=True)
class Budget:
    """How much one line may cost: tries that failed, refusals that were its own (see `Attempts`), seconds in tries."""

    max_attempts: int = 5
    max_refusals: int = 3
    max_seconds: float = 1800.0


class Attempts:
    """The memory of one line, R4.

    A 401, 403, 404 … may be the model's outage or one poisonous line's own answer: content moderation answers 403, a
    bad `previous_response_id` 404. Such a refusal counts against the line only where the upstream has since the line's
    previous refusal taken up another line and answered it well. `fresh` of the lane's pacer says so; a plain count of
    successes would not, for requests that an upstream took before it went bad may end well long after.
    """

    __slots__ = ("_refused_at", "budget", "burnt", "refusals", "seconds")

    def __init__(self, budget: Budget | None = None) -> None:
        self.budget = budget or Budget()
        self.burnt = 0
        self.refusals = 0
        self.seconds = 0.0
        self._refused_at: float | None = None

    def after(self, verdict: Verdict, answer: Answer, fresh: float) -> bool:
        """Whether the line may be tried again. `fresh`: monotonic start of the newest request that succeeded."""
        if verdict is Verdict.RETRY:
            return self._burn(answer.seconds)
        if verdict is Verdict.OUTAGE and answer.status:
            return self._refuse(answer.started + answer.seconds, fresh)
        return verdict in (Verdict.OUTAGE, Verdict.PUSHBACK)

    def _burn(self, seconds: float) -> bool:
        self.burnt += 1
        self.seconds += seconds
        return self.burnt < self.budget.max_attempts and self.seconds < self.budget.max_seconds

    def _refuse(self, now: float, fresh: float) -> bool:
        if self._refused_at is not None and fresh > self._refused_at:
            self.refusals += 1
        self._refused_at = now
        return self.refusals < self.budget.max_refusals
