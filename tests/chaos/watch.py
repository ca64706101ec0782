"""How the work gets on, from outside: lines that have their result, and how long after a fault the next one came."""

import time
from dataclasses import dataclass, field
from threading import Event, Thread

import psycopg

from tests.chaos.ground import Ground

EVERY = 0.25  # seconds
SEEN = """
SELECT coalesce(sum(completed + failed), 0) + coalesce(sum((status IN ('completed', 'cancelled', 'expired'))::int), 0),
       count(*) FILTER (WHERE status IN ('validating', 'in_progress', 'finalizing', 'cancelling'))
FROM batches_app_batch
"""


@dataclass(frozen=True, slots=True)
class Sample:
    at: float
    done: int
    open: int


@dataclass(slots=True)
class Watch:
    ground: Ground
    samples: list[Sample] = field(default_factory=list)
    _stopped: Event = field(default_factory=Event)
    _thread: Thread | None = None

    def start(self) -> None:
        self._thread = Thread(target=self._look, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        assert self._thread is not None
        self._thread.join()

    def recovery(self, at: float) -> float | None:
        """Seconds from then to the next result, or until nothing was left to do; None: the watch ended first."""
        before = max((sample.done for sample in self.samples if sample.at <= at), default=0)
        after = (sample for sample in self.samples if sample.at > at)
        return next((sample.at - at for sample in after if sample.done > before or not sample.open), None)

    def _look(self) -> None:
        while not self._stopped.is_set():
            try:
                with self.ground.connect() as connection:
                    self._look_by(connection)
            except psycopg.Error:
                self._stopped.wait(EVERY)

    def _look_by(self, connection: "psycopg.Connection[tuple[int, int]]") -> None:
        connection.execute("SET statement_timeout = '2s'")
        while not self._stopped.wait(EVERY):
            done, open_ = connection.execute(SEEN).fetchone() or (0, 0)
            self.samples.append(Sample(time.monotonic(), int(done), open_))
