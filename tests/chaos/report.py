from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from tests.chaos.answers import Answers
from tests.chaos.faults import Fault
from tests.chaos.ground import CONCURRENCY, LANES

WINDOW = 256  # results between two flushes of a lane, at most
LONGEST, MEDIAN = 60.0, 15.0  # seconds that a recovery takes at most


@dataclass(frozen=True, slots=True)
class Struck:
    fault: Fault
    began: float
    ended: float
    failure: str  # of the fault itself


@dataclass(frozen=True, slots=True)
class Report:
    """`good`: by marker, how many good answers the upstream gave. `recoveries`: seconds, in the order of `struck`.
    `uploads` in parts, by their end; a stranger's `attempts`, by what came of them; `flooded`: asked and refused."""

    seed: int
    struck: Sequence[Struck]
    left_out: Sequence[str]
    recoveries: Sequence[float | None]
    batches: int
    lines: int
    uploads: Mapping[str, int]
    attempts: Mapping[str, int]
    flooded: tuple[int, int]
    good: Mapping[str, int]
    answers: Answers
    given_up: Sequence[str]
    broken: Sequence[str]

    @property
    def sent_twice(self) -> int:
        """Lines that had a good answer already: what a dead process had not written down."""
        return sum(count - 1 for count in self.good.values() if count)

    @property
    def allowed_twice(self) -> int:
        kills = sum(struck.fault.kills for struck in self.struck)
        return kills * (LANES * WINDOW + CONCURRENCY)

    @property
    def missed(self) -> list[str]:
        """Each in a sentence."""
        return list(self._missed())

    def _missed(self) -> Iterator[str]:
        known = [seconds for seconds in self.recoveries if seconds is not None]
        if len(known) < len(self.recoveries):
            yield f"{len(self.recoveries) - len(known)} faults were not recovered from"
        if known and (max(known) > LONGEST or median(known) > MEDIAN):
            yield f"a recovery took longer than {LONGEST:.0f} s, or the median than {MEDIAN:.0f} s"
        if self.sent_twice > self.allowed_twice:
            yield f"{self.sent_twice} requests were sent again, and {self.allowed_twice} at most were to be"
        if self.answers.wrong:
            yield f"{len(self.answers.wrong)} answers of the API were wrong"
        yield from (f"a fault failed itself: {s.fault.name}: {s.failure}" for s in self.struck if s.failure)

    def text(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        known = [seconds for seconds in self.recoveries if seconds is not None]
        counts = Counter(struck.fault.name for struck in self.struck)
        yield f"seed {self.seed}: {len(self.struck)} faults of {len(counts)} kinds"
        for name, count in sorted(counts.items()):
            slowest = max((seconds or 0 for seconds in self._of(name)), default=0.0)
            yield f"  {count:4d}  {name} (slowest recovery {slowest:.1f} s)"
        yield from (f"  left out here: {name}" for name in self.left_out)
        twice = f"{self.sent_twice} sent again though answered (at most {self.allowed_twice})"
        yield f"{self.batches} batches, {self.lines:,} requests; {twice}"
        if known:
            yield f"recovery: median {median(known):.1f} s, longest {max(known):.1f} s"
        yield f"uploads in parts: {_listed(self.uploads)}"
        yield f"{sum(self.attempts.values())} attempts of a stranger: {_listed(self.attempts)}"
        yield f"{self.flooded[0]:,} requests of a flood: {self.flooded[1]:,} refused by its rate limit"
        yield f"API answers: {dict(sorted(self.answers.counts.items()))}"
        yield from (f"  wrong: {count} x {what}" for what, count in Counter(self.answers.wrong).most_common(20))
        yield from (f"  given up by the SDK: {n} x {what}" for what, n in Counter(self.given_up).most_common(10))
        yield from (f"MISSED: {what}" for what in self.missed)
        yield from (f"BROKEN: {what}" for what in self.broken)
        yield "Nothing is broken." if not self.broken else f"{len(self.broken)} things are broken."

    def _of(self, name: str) -> Iterator[float | None]:
        for struck, seconds in zip(self.struck, self.recoveries, strict=True):
            if struck.fault.name == name:
                yield seconds


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {what}" for what, count in sorted(counts.items())) or "none"
