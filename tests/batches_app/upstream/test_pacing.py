import random
from dataclasses import dataclass
from math import inf

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from batches_app.upstream.client import Answer, Fault
from batches_app.upstream.pacing import Pacer
from batches_app.upstream.retry import RETRY_AFTER_CAP, judge


def steady() -> float:
    """Chance for waits without jitter: all of the ceiling."""
    return 1.0


def working(permits: int) -> Pacer:
    """A pacer of a model that has just answered well."""
    pacer = Pacer(permits, steady)
    pacer.succeeded(0.5, 0.1)
    return pacer


def heed(pacer: Pacer, now: float, started: float, status: int = 0, fault: Fault | None = None) -> None:
    said = Answer("tag", status, b"", "", None, None, fault, f"It answered {status}.", started, now - started)
    pacer.heed(judge(said), said, now, None)


# ---- halving and growth


def test_it_starts_with_all_its_permits() -> None:
    assert Pacer(8).allowance(0.0, 0) == 8
    assert Pacer(8).allowance(0.0, 5) == 3
    assert Pacer(8).allowance(0.0, 9) == 0


def test_r4_one_congestion_is_one_halving() -> None:
    """R4: all 64 requests in flight come back with 429."""
    pacer = Pacer(64, steady)
    for n in range(64):
        heed(pacer, 1.0 + n / 100, started=0.5, status=429)
    assert pacer.limit == 32
    assert (pacer.allowance(1.49, 0), pacer.allowance(1.5, 0)) == (0, 32)
    heed(pacer, 3.0, started=2.0, status=503)
    assert pacer.limit == 16


def test_r4_pushbacks_in_a_row_wait_longer_until_a_success() -> None:
    """R4: exponential backoff of the whole model."""
    pacer, now, waits = Pacer(1024, steady), 1.0, []
    for _ in range(8):
        pacer.pushed_back(now, now - 0.1, None, "429")
        resumes = pacer.next_at(now)
        assert resumes is not None
        waits.append(resumes - now)
        assert pacer.allowance(resumes - 0.01, 0) == 0
        assert pacer.allowance(resumes, 0) == pacer.limit
        now = resumes + 1
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert pacer.reason == "429"
    pacer.succeeded(now, now - 0.1)
    assert str(pacer.reason) == "None"
    pacer.pushed_back(now + 2, now + 1, None, "429")
    assert pacer.next_at(now + 2) == now + 2.5


def test_r4_retry_after_is_heeded() -> None:
    """R4: also that of a request which was in flight as the first one throttled."""
    pacer = Pacer(8, steady)
    pacer.pushed_back(1.0, 0.5, 7.0, "429")
    assert pacer.next_at(1.0) == 8.0
    pacer.pushed_back(1.1, 0.5, 20.0, "429")
    assert pacer.next_at(1.1) == 21.1
    assert pacer.limit == 4


def test_r4_a_retry_after_of_nothing_does_not_make_it_hammer() -> None:
    """R4: an upstream that says "at once" and throttles on gets the growing backoff."""
    pacer = Pacer(8, steady)
    for now, asked, wait in ((1.0, 0.0, 0.5), (3.0, 0.1, 1.0), (9.0, 0.0, 2.0)):
        pacer.pushed_back(now, now - 0.1, asked, "429")
        assert pacer.next_at(now) == now + wait


def test_the_limit_never_falls_below_one() -> None:
    pacer = Pacer(8, steady)
    for n in range(10):
        pacer.timed_out(n + 1.0, n + 0.5)
        assert pacer.limit == max(1, 4 >> n)


def test_growth_is_one_for_a_limit_of_successes() -> None:
    pacer = Pacer(8, steady)
    pacer.timed_out(1.0, 0.5)
    assert pacer.limit == 4
    limits = []
    for n in range(4 + 5 + 6 + 7 + 10):
        pacer.succeeded(2.0 + n, 1.5 + n)
        limits.append(pacer.limit)
    assert [limits.index(limit) + 1 for limit in (5, 6, 7, 8)] == [4, 9, 15, 22]
    assert limits[-1] == 8


def test_old_successes_earn_no_growth() -> None:
    pacer = Pacer(8, steady)
    pacer.timed_out(1.0, 0.5)
    for n in range(100):
        pacer.succeeded(1.1 + n, 0.9)
    assert pacer.limit == 4


def test_time_outs_halve_but_let_sending_go_on() -> None:
    pacer = Pacer(8, steady)
    for status, fault in ((408, None), (504, None), (0, Fault.TIMEOUT)):
        now = pacer.limit * -10 + 100.0
        heed(pacer, now, now - 0.1, status, fault)
        assert pacer.allowance(now, 0) == pacer.limit
    assert pacer.limit == 1


def test_a_lines_own_failures_change_nothing() -> None:
    pacer = working(8)
    for n, status in enumerate([400, 422, 500, 301] * 20):
        heed(pacer, 2.0 + n, 1.9 + n, status)
    heed(pacer, 99.0, 98.0, fault=Fault.RESET)
    heed(pacer, 99.5, 98.0, fault=Fault.TOO_LARGE)
    assert (pacer.limit, pacer.allowance(100.0, 0), pacer.reason) == (8, 8, None)


# ---- outages


def test_r4_an_outage_pauses_and_probes_with_one_request() -> None:
    """R4: one probe at a time, later and later; a success restores the limit at once."""
    pacer = Pacer(8, steady)
    heed(pacer, 10.0, 9.9, fault=Fault.CONNECT)
    assert (pacer.paused_since, pacer.reason) == (10.0, "It answered 0.")
    assert pacer.allowance(10.4, 7) == 0
    now = 10.0
    for wait in (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0):
        assert pacer.next_at(now) == now + wait
        now += wait
        assert pacer.allowance(now, 0) == 1
        pacer.sent()
        assert pacer.allowance(now, 1) == 0
        heed(pacer, now + 0.1, now, fault=Fault.CONNECT)
        now += 0.1
    assert pacer.paused_since == 10.0
    pacer.succeeded(now + 31, now + 30)
    after = [pacer.paused_since, pacer.reason, pacer.limit]
    assert after == [None, None, 8]
    assert pacer.allowance(now + 31, 0) == 8


def test_a_probe_need_not_wait_for_requests_that_hang_since_before() -> None:
    pacer = Pacer(8, steady)
    pacer.out(10.0, 9.0, "refused")
    assert pacer.allowance(11.0, 7) == 1
    pacer.sent()
    assert pacer.allowance(11.0, 8) == 0


def test_a_probe_that_was_aborted_is_not_waited_for() -> None:
    pacer = Pacer(8, steady)
    pacer.out(10.0, 9.0, "refused")
    pacer.sent()
    assert pacer.allowance(11.0, 1) == 0
    assert pacer.allowance(11.0, 0) == 1


def test_who_asks_need_not_wait_for_the_next_probe() -> None:
    """An operator who has mended the upstream. Whether it is mended, the probe says."""
    pacer = Pacer(8, steady)
    for now in (10.0, 20.0, 30.0, 40.0, 50.0, 60.0):
        pacer.out(now, now - 0.1, "refused")
    assert pacer.allowance(61.0, 0) == 0
    pacer.probe_now(61.0)
    assert pacer.allowance(61.0, 0) == 1
    assert (pacer.paused_since, pacer.reason) == (10.0, "refused")
    pacer.sent()
    pacer.probe_now(61.1)
    assert pacer.allowance(61.1, 1) == 0  # one at a time all the same
    pacer.out(61.2, 61.0, "refused")
    assert pacer.next_at(61.2) == 61.2 + 30.0


def test_who_asks_need_not_wait_out_a_throttling() -> None:
    pacer = Pacer(8, steady)
    pacer.pushed_back(10.0, 9.0, 600.0, "429")
    pacer.probe_now(11.0)
    assert pacer.allowance(11.0, 0) == 4


def test_asking_where_nothing_waits_changes_nothing() -> None:
    pacer = working(8)
    pacer.probe_now(11.0)
    assert (pacer.allowance(10.0, 0), pacer.next_at(10.0)) == (8, None)


def test_news_from_before_the_pause_is_old() -> None:
    pacer = Pacer(8, steady)
    pacer.out(10.0, 9.0, "refused")
    pacer.succeeded(10.1, 5.0)
    pacer.answered(10.1, 5.0)
    pacer.timed_out(10.2, 5.0)
    pacer.pushed_back(10.2, 5.0, None, "429")
    pacer.out(10.3, 9.5, "refused again")
    assert (pacer.paused_since, pacer.limit, pacer.reason, pacer.next_at(10.3)) == (10.0, 8, "refused", 10.5)
    pacer.succeeded(12.0, 11.0)
    pacer.out(12.1, 9.5, "a straggler")
    assert pacer.paused_since is None


def test_what_shows_that_the_upstream_is_there_ends_the_pause() -> None:
    for status, limit in ((400, 8), (429, 4)):
        pacer = Pacer(8, steady)
        pacer.out(10.0, 9.0, "refused")
        heed(pacer, 12.0, 11.0, status)
        assert (pacer.paused_since, pacer.limit) == (None, limit)


def test_a_probe_that_fails_in_passing_does_not() -> None:
    for status, fault in ((500, None), (504, None), (0, Fault.RESET), (0, Fault.TIMEOUT)):
        pacer = Pacer(8, steady)
        pacer.out(10.0, 9.0, "refused")
        pacer.sent()
        heed(pacer, 12.0, 11.0, status, fault)
        assert (pacer.paused_since, pacer.limit, pacer.next_at(12.0)) == (10.0, 8, 13.0)
        assert pacer.allowance(13.0, 3) == 1


def test_r4_a_poisonous_line_does_not_stop_a_model_that_works() -> None:
    """R4: a few per cent of 403 among successes, as content moderation gives them."""
    pacer, clock = working(32), 1.0
    for n in range(1000):
        clock += 1.0
        heed(pacer, clock, clock - 0.5, 403 if n % 20 == 0 else 200)
        assert pacer.paused_since is None
        assert pacer.limit == 32


def test_r4_refusals_of_everything_pause_it_though_old_requests_end_well() -> None:
    """R4: the key is revoked at 10.0; requests taken before end well for a long time yet."""
    pacer, sent = working(32), 0
    while pacer.paused_since is None and sent < 99:
        sent += 1
        heed(pacer, 10.0 + sent / 10, 10.0 + sent / 10 - 0.05, 401)
        heed(pacer, 10.0 + sent / 10, 9.0, 200)
    assert sent == 32 // 4 + 1


def test_r4_a_model_that_never_worked_pauses_at_the_first_refusal() -> None:
    """R4: a wrong key or URL from the start."""
    for status in (401, 404, 502):
        pacer = Pacer(64, steady)
        heed(pacer, 1.0, 0.5, status)
        assert pacer.paused_since == 1.0


def test_fresh_is_the_start_of_the_newest_success() -> None:
    pacer = Pacer(8)
    assert pacer.fresh == -inf
    pacer.succeeded(5.0, 4.0)
    pacer.succeeded(6.0, 1.0)
    pacer.answered(8.0, 7.0)
    assert pacer.fresh == 4.0


def test_resize_follows_at_once_where_nothing_was_cut() -> None:
    pacer = Pacer(8, steady)
    pacer.resize(16)
    assert pacer.limit == 16
    pacer.timed_out(1.0, 0.5)
    pacer.resize(64)
    assert (pacer.limit, pacer.permits) == (8, 64)
    pacer.resize(2)
    assert pacer.limit == 2


# ---- any history


@dataclass
class Request:
    started: float


class AnyHistory(RuleBasedStateMachine):
    """A lane that sends all it may, and an upstream that answers in any order, with anything, at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.pacer = Pacer(12, random.Random(7).random)
        self.flying: list[Request] = []

    @rule(seconds=st.floats(0.001, 40))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def fill(self) -> None:
        for _ in range(self.pacer.allowance(self.now, len(self.flying))):
            self.flying.append(Request(self.now))
            self.pacer.sent()

    @precondition(lambda self: self.flying)
    @rule(
        which=st.integers(0, 99),
        status=st.sampled_from([0, 200, 400, 403, 429, 500, 503, 504]),
        fault=st.sampled_from([Fault.CONNECT, Fault.TIMEOUT, Fault.RESET]),
        retry_after=st.none() | st.floats(0, RETRY_AFTER_CAP),
    )
    def answer(self, which: int, status: int, fault: Fault, retry_after: float | None) -> None:
        self.now += 0.001
        request = self.flying.pop(which % len(self.flying))
        gone = None if status else fault
        said = Answer("tag", status, b"", "", None, None, gone, "why", request.started, self.now - request.started)
        self.pacer.heed(judge(said), said, self.now, retry_after)

    @rule(permits=st.integers(1, 20))
    def resize(self, permits: int) -> None:
        self.pacer.resize(permits)

    @invariant()
    def the_limit_is_within_the_permits(self) -> None:
        assert 1 <= self.pacer.limit <= self.pacer.permits

    @invariant()
    def while_paused_at_most_one_probe_flies(self) -> None:
        since = self.pacer.paused_since
        if since is not None:
            assert sum(r.started > since for r in self.flying) <= 1
            assert self.pacer.allowance(self.now, len(self.flying)) <= 1

    @invariant()
    def a_lane_with_nothing_in_flight_always_has_a_next_moment(self) -> None:
        at = self.pacer.next_at(self.now)
        assert self.pacer.allowance(self.now if at is None else at, 0) >= 1
        assert at is None or at - self.now <= RETRY_AFTER_CAP

    def teardown(self) -> None:
        """A steady stream of successes brings back all permits."""
        for _ in range(20 * 20 + 1):
            self.now = (self.pacer.next_at(self.now) or self.now) + 0.01
            assert self.pacer.allowance(self.now, 0) >= 1
            self.pacer.sent()
            self.pacer.succeeded(self.now + 0.01, self.now)
            self.now += 0.01
        assert self.pacer.limit == self.pacer.permits
        assert self.pacer.paused_since is None


TestAnyHistory = AnyHistory.TestCase


@given(st.lists(st.sampled_from(["pushback", "outage", "success"]), max_size=50), st.randoms())
def test_waits_are_within_half_and_all_of_the_ceiling(history: list[str], chance: random.Random) -> None:
    pacer, now = Pacer(8, chance.random), 100.0
    for what in history:
        now += 40
        if what == "pushback":
            pacer.pushed_back(now, now - 0.01, None, "429")
        elif what == "outage":
            pacer.out(now, now - 0.01, "refused")
        else:
            pacer.succeeded(now, now - 0.01)
        at = pacer.next_at(now)
        assert at is None if what == "success" else at is not None and 0.25 <= at - now <= 30.0
