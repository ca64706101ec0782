import random
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batches_app.upstream.client import Answer, Fault
from batches_app.upstream.retry import (
    BACKOFF_CAP,
    RETRY_AFTER_CAP,
    Attempts,
    Budget,
    Verdict,
    backoff,
    judge,
    parse_retry_after,
)

NOW = datetime(2030, 1, 1, 12, 0, 0, tzinfo=UTC)


def answer(status: int = 0, fault: Fault | None = None, *, started: float = 0.0, seconds: float = 1.0) -> Answer:
    return Answer("tag", status, b"", "", None, None, fault, "", started, seconds)


@pytest.mark.parametrize(
    ("verdict", "statuses"),
    [
        (Verdict.SUCCESS, [200, 201, 204, 299]),
        (Verdict.FAILED, [301, 302, 307, 400, 409, 413, 418, 422, 425, 451]),
        (Verdict.RETRY, [408, 500, 501, 504, 507, 520, 524, 599]),
        (Verdict.PUSHBACK, [429, 503, 529]),
        (Verdict.OUTAGE, [401, 402, 403, 404, 405, 502, 521, 522, 523]),
    ],
)
def test_r4_each_status_has_its_verdict(verdict: Verdict, statuses: list[int]) -> None:
    """R4: 408, 429 and 5xx are tried again; what is the model's trouble is not the line's."""
    assert [judge(answer(status)) for status in statuses] == [verdict] * len(statuses)


def test_r4_each_fault_has_its_verdict() -> None:
    """R4: connection faults are tried again; only an answer beyond the cap would be so every time."""
    verdicts = {fault: judge(answer(fault=fault)) for fault in Fault}
    assert verdicts == {
        Fault.CONNECT: Verdict.OUTAGE,
        Fault.TIMEOUT: Verdict.RETRY,
        Fault.RESET: Verdict.RETRY,
        Fault.UNUSABLE: Verdict.RETRY,
        Fault.TOO_LARGE: Verdict.FAILED,
    }


# ---- Retry-After and backoff


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("7", 7.0),
        (" 7 ", 7.0),
        ("1.5", 1.5),
        ("9" * 5000, RETRY_AFTER_CAP),
        ("Tue, 01 Jan 2030 12:00:30 GMT", 30.0),
        ("Tue, 01 Jan 2030 12:00:30 -0000", 30.0),
        ("Tue, 01 Jan 2030 11:00:00 GMT", 0.0),
        ("Tue, 01 Jan 2199 11:00:00 GMT", RETRY_AFTER_CAP),
        (None, None),
        ("", None),
        ("-5", None),
        ("nan", None),
        ("inf", None),
        ("1e3", None),
        ("٣", None),
        ("soon", None),
        ("Tue, 99 Foo 2030 12:00:30 GMT", None),
    ],
)
def test_r4_retry_after(value: str | None, seconds: float | None) -> None:
    """R4: Retry-After in both its forms, within bounds; garbage is as good as none."""
    assert parse_retry_after(value, NOW) == seconds


@given(st.text() | st.from_regex(r"\A[A-Z][a-z]{2}, \d{1,3} [A-Z][a-z]{2} \d{1,9} \d+:\d+:\d+ ([A-Z]{3}|[+-]\d+)\Z"))
def test_no_retry_after_raises_or_leaves_the_bounds(value: str) -> None:
    seconds = parse_retry_after(value, NOW)
    assert seconds is None or 0 <= seconds <= RETRY_AFTER_CAP


@given(st.integers(0, int(RETRY_AFTER_CAP)))
def test_both_forms_of_retry_after_agree(seconds: int) -> None:
    date = format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)
    assert parse_retry_after(date, NOW) == parse_retry_after(str(seconds), NOW) == seconds


def test_r4_backoff_doubles_up_to_its_cap() -> None:
    """R4: exponential."""
    assert [backoff(n, lambda: 1.0) for n in (1, 2, 3, 4, 7, 100, 10**6)] == [0.5, 1.0, 2.0, 4.0, 30.0, 30.0, 30.0]


@given(st.integers(1, 10_000), st.randoms())
def test_r4_backoff_has_full_jitter(attempt: int, chance: random.Random) -> None:
    """R4: anywhere from nothing to the ceiling."""
    assert backoff(attempt, lambda: 0.0) == 0.0
    assert 0 <= backoff(attempt, chance.random) <= BACKOFF_CAP


# ---- what one line may cost


def test_r4_a_lines_own_failures_are_counted() -> None:
    """R4: five tries, and no sixth."""
    attempts = Attempts()
    assert [attempts.after(Verdict.RETRY, answer(500), -inf) for _ in range(5)] == [True] * 4 + [False]
    assert attempts.burnt == 5


def test_r4_the_budget_in_seconds_ends_the_tries_early() -> None:
    """R4: three time-outs of 15 minutes are not made five."""
    attempts = Attempts(Budget(max_seconds=1800))
    tries = [attempts.after(Verdict.RETRY, answer(fault=Fault.TIMEOUT, seconds=900), -inf) for _ in range(2)]
    assert tries == [True, False]


@pytest.mark.parametrize("verdict", [Verdict.SUCCESS, Verdict.FAILED])
def test_what_is_settled_is_not_tried_again(verdict: Verdict) -> None:
    assert not Attempts().after(verdict, answer(200), -inf)


@pytest.mark.parametrize(
    ("verdict", "said"),
    [
        (Verdict.PUSHBACK, answer(429)),
        (Verdict.PUSHBACK, answer(503)),
        (Verdict.OUTAGE, answer(fault=Fault.CONNECT)),
    ],
)
def test_r4_throttling_and_a_dead_upstream_burn_no_line(verdict: Verdict, said: Answer) -> None:
    """R4: whatever else goes well meanwhile, and for however long."""
    attempts = Attempts()
    assert all(attempts.after(verdict, said, fresh=float(n)) for n in range(1000))
    assert (attempts.burnt, attempts.refusals) == (0, 0)


def test_r4_a_wrong_key_burns_no_line() -> None:
    """R4: with no success in between, a 401 says nothing about the line."""
    attempts = Attempts()
    assert all(attempts.after(Verdict.OUTAGE, answer(401, started=10.0 * n), fresh=5.0) for n in range(1, 1000))


def test_r4_a_refusal_that_only_this_line_gets_is_its_own() -> None:
    """R4: each time, another line was taken up after this one's last 403 and went well."""
    attempts = Attempts()
    tries = [attempts.after(Verdict.OUTAGE, answer(403, started=10.0 * n), fresh=10.0 * n - 5) for n in range(1, 5)]
    assert tries == [True, True, True, False]  # the first proves nothing: the upstream may have gone bad just then


def test_r4_one_success_counts_against_the_line_once() -> None:
    """R4: another line went well after the first refusal; since then the upstream has refused everybody."""
    attempts = Attempts()
    assert all(attempts.after(Verdict.OUTAGE, answer(401, started=10.0 * n), fresh=15.0) for n in range(1, 50))
    assert attempts.refusals == 1


def test_r4_a_success_begun_before_the_refusal_proves_nothing() -> None:
    """R4: a key is revoked, and requests taken earlier still end well, one after the other."""
    attempts = Attempts()
    said = [answer(401, started=100.0 + n, seconds=0.1) for n in range(50)]
    assert all(attempts.after(Verdict.OUTAGE, one, fresh=50.0 + n) for n, one in enumerate(said))


@given(st.lists(st.tuples(st.sampled_from([Verdict.RETRY, Verdict.OUTAGE, Verdict.PUSHBACK]), st.booleans())))
def test_a_line_never_outlives_its_budget(history: list[tuple[Verdict, bool]]) -> None:
    attempts, clock = Attempts(Budget(max_attempts=4, max_refusals=2)), 0.0
    for verdict, working in history:
        clock += 10
        if not attempts.after(verdict, answer(403, started=clock), fresh=clock - 5 if working else -inf):
            assert attempts.burnt == 4 or attempts.refusals == 2
            return
        assert attempts.burnt < 4
        assert attempts.refusals < 2
