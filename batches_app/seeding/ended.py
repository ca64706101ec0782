"""One batch that has ended, made up: what was asked for, how it went, and what failed."""

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random

from batches_app.seeding import vocabulary
from batches_app.seeding.cast import RESPONSES, Cast, Served, Tenant
from batches_app.seeding.vocabulary import TROUBLES, UNRUN, Trouble
from batches_app.states import Status
from billing_app.pricing import Tokens

WINDOWS = ("24h", "24h", "24h", "24h", "24h", "48h", "7d", "14d")
ROUND_TOTALS = (100, 500, 1_000, 1_000, 5_000, 10_000, 50_000)
LONGEST_TOTAL = 50_000
_WEIGHTS = [trouble.weight for trouble in TROUBLES]


@dataclass(frozen=True, slots=True)
class Failures:
    trouble: Trouble
    count: int
    first_line: int


@dataclass(slots=True)
class Ended:
    tenant: Tenant
    served: Served
    key: int
    created: datetime
    ended: datetime
    window: str
    deadline: datetime
    name: str
    parent: "Ended | None" = None
    pk: int = 0
    retried_code: str = ""
    status: Status = Status.COMPLETED
    total: int = 0
    completed: int = 0
    failed: int = 0
    flagged: int = 0
    tokens: Tokens = field(default_factory=Tokens)
    failures: tuple[Failures, ...] = ()

    @property
    def unrun(self) -> int:
        return self.total - self.completed - self.failed

    @property
    def began(self) -> datetime:
        return self.created + min((self.ended - self.created) / 5, timedelta(seconds=1 + self.total / 8_000))

    @property
    def merged(self) -> datetime:
        """When the last result was in."""
        return self.ended - min((self.ended - self.created) / 5, timedelta(seconds=1 + self.total / 6_000))


class Storyteller:
    def __init__(self, cast: Cast, rng: Random, now: datetime) -> None:
        self._cast, self._rng, self._now = cast, rng, now
        self._to_retry: deque[Ended] = deque(maxlen=100)

    def tell(self, created: datetime) -> Ended:
        story = self._retry(created) if self._to_retry and self._rng.random() < 0.012 else self._new(created)
        self._decide(story)
        self._run(story)
        if story.status is Status.COMPLETED and story.failed:
            self._to_retry.append(story)
        return story

    def _new(self, created: datetime) -> Ended:
        rng = self._rng
        tenant = rng.choices(self._cast.tenants, cum_weights=self._cast.cum_weights)[0]
        served = tenant.favourites[0] if rng.random() < 0.6 else rng.choice(tenant.favourites)
        key = tenant.keys[0] if rng.random() < 0.7 else rng.choice(tenant.keys)
        window = rng.choice(WINDOWS)
        deadline = created + timedelta(hours=int(window[:-1]) * (24 if window.endswith("d") else 1))
        story = Ended(tenant, served, key, created, created, window, deadline, self._name(created))
        if rng.random() < 0.25:
            story.total = rng.choice(ROUND_TOTALS)
        else:
            story.total = min(LONGEST_TOTAL, 1 + int(rng.lognormvariate(5.6, 1.6)))
        return story

    def _retry(self, created: datetime) -> Ended:
        parent = self._rng.choice(self._to_retry)
        failures = self._rng.choice(parent.failures)
        deadline = created + (parent.deadline - parent.created)
        story = Ended(
            parent.tenant, parent.served, parent.key, created, created, parent.window, deadline, parent.name, parent
        )
        story.total, story.retried_code = failures.count, failures.trouble.code
        return story

    def _name(self, created: datetime) -> str:
        rng = self._rng
        chance = rng.random()
        if chance < 0.12:
            return ""
        if chance < 0.13:
            return rng.choice(vocabulary.LONG_NAMES)
        suffix = f"{created:%Y-%m-%d}" if chance < 0.6 else f"#{rng.randint(1, 400)}"
        return f"{rng.choice(vocabulary.TASKS)} {suffix}"

    def _decide(self, story: Ended) -> None:
        """How it ends, and when."""
        rng, chance, left = self._rng, self._rng.random(), self._now - story.created
        work = timedelta(seconds=3 + story.total / rng.uniform(4, 60) + rng.expovariate(1 / 120))
        story.ended = story.created + min(work, (story.deadline - story.created) * 0.9, left * rng.uniform(0.5, 0.95))
        if chance < 0.035 and story.parent is None:
            story.status = Status.FAILED
            story.ended = story.created + min(timedelta(seconds=rng.uniform(1, 9)), left / 2)
        elif chance < 0.075:
            story.status = Status.CANCELLED
        elif chance < 0.10 and story.deadline + timedelta(minutes=1) < self._now:
            story.status, story.ended = Status.EXPIRED, story.deadline + timedelta(seconds=rng.uniform(2, 14))

    def _run(self, story: Ended) -> None:
        rng = self._rng
        if story.status is Status.FAILED:
            story.total = 0
            return
        done = story.total
        if story.status is not Status.COMPLETED:
            done = int(story.total * rng.uniform(0, 0.95))
        story.failed = self._failed_of(done)
        story.completed = done - story.failed
        story.flagged = min(story.completed, rng.randint(1, 5)) if rng.random() < 0.004 else 0
        story.tokens = self._tokens(story)
        story.failures = tuple(self._failures(story))

    def _failed_of(self, done: int) -> int:
        chance = self._rng.random()
        if chance < 0.72 or not done:
            return 0
        if chance > 0.995:
            return done
        return min(done, 1 + int(done * 10 ** self._rng.uniform(-4, -0.8)))

    def _tokens(self, story: Ended) -> Tokens:
        rng, lines = self._rng, story.completed - story.flagged
        read = int(lines * story.served.input_tokens * rng.lognormvariate(0, 0.35))
        written = int(lines * story.served.output_tokens * rng.lognormvariate(0, 0.35))
        cached = int(read * story.tenant.cached * rng.uniform(0.6, 1))
        reasoning = int(written * rng.uniform(0.2, 0.6)) if story.served.endpoint == RESPONSES else 0
        return Tokens(read, cached, written, reasoning)

    def _failures(self, story: Ended) -> list[Failures]:
        rng, left, found = self._rng, story.failed, dict[Trouble, int]()
        for trouble in rng.choices(TROUBLES, _WEIGHTS, k=3 if left > 2 else 1) if left else ():
            count = left if left < 3 else rng.randint(left // 2, left)
            found[trouble] = found.get(trouble, 0) + count
            left -= count
        if left:
            found[trouble] += left
        if story.unrun:
            found[UNRUN[story.status]] = story.unrun
        return [Failures(trouble, count, rng.randint(1, story.total)) for trouble, count in found.items() if count]
