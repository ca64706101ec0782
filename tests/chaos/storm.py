"""A plan of faults from a seed, and the plan carried out while tenants work."""

import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import ceil
from threading import Lock

from tests.chaos import faults, proof
from tests.chaos.faults import FAULTS, Fault
from tests.chaos.flood import Flood
from tests.chaos.ground import Ground, ground
from tests.chaos.report import Report, Struck
from tests.chaos.stranger import Stranger
from tests.chaos.tenants import Tenants
from tests.chaos.watch import Watch

AT_ONCE = 2
LATENCY_MS = 40
WARM_UP = 3.0  # seconds, until there is something to disturb


@dataclass(frozen=True, slots=True)
class Planned:
    at: float  # seconds from the beginning
    fault: Fault
    lasts: float


def plan(seed: int, seconds: float, every: float) -> list[Planned]:
    """Every kind once before any comes again, in an order of chance each time. The same on every machine; what one
    of them cannot do is left out there."""
    chance, planned = random.Random(seed), list[Planned]()
    round_: list[Fault] = []
    for number in range(ceil(seconds / every)):
        round_ = round_ or chance.sample(FAULTS, len(FAULTS))
        fault = round_.pop()
        planned.append(Planned(number * every, fault, chance.uniform(*fault.seconds)))
    return planned


class Storm:
    def __init__(self, seed: int, *, seconds: float, every: float, accounts: int) -> None:
        self._impossible = [fault for fault in FAULTS if not fault.is_possible()]
        self._plan = [planned for planned in plan(seed, seconds, every) if planned.fault not in self._impossible]
        self._seed, self._accounts = seed, accounts
        self._struck: list[Struck] = []
        self._lock = Lock()

    def run(self) -> Report:
        with ground(random.Random(self._seed)) as here:
            tenants, watch = Tenants(here, self._seed, self._accounts), Watch(here)
            stranger, flood = Stranger(here, tenants, self._seed), Flood(here)
            here.upstream.control.set(latency_ms=LATENCY_MS)
            for one in (tenants, watch, stranger, flood):
                one.start()
            time.sleep(WARM_UP)
            self._carry_out(here)
            stranger.stop()
            flood.calm_down()
            tenants.stop()
            broken = proof.drain(tenants)
            watch.stop()
            broken += [*stranger.broken(), *proof.broken(here, tenants), *flood.broken()]
            tenants.close()
            return self._report(here, tenants, watch, stranger, flood, broken)

    def _carry_out(self, here: Ground) -> None:
        began = time.monotonic()
        with ThreadPoolExecutor(AT_ONCE) as hands:
            for planned in self._plan:
                time.sleep(max(0.0, began + planned.at - time.monotonic()))
                hands.submit(self._strike, here, planned)

    def _strike(self, here: Ground, planned: Planned) -> None:
        began = time.monotonic()
        try:
            with faults.struck(planned.fault, here):
                time.sleep(planned.lasts)
            failure = ""
        except Exception as error:  # the storm goes on, and the report tells
            failure = f"{type(error).__name__}: {error}"
        with self._lock:
            self._struck.append(Struck(planned.fault, began, time.monotonic(), failure))

    def _report(
        self, here: Ground, tenants: Tenants, watch: Watch, stranger: Stranger, flood: Flood, broken: list[str]
    ) -> Report:
        return Report(
            seed=self._seed,
            struck=self._struck,
            left_out=[fault.name for fault in self._impossible],
            recoveries=[watch.recovery(struck.ended) for struck in self._struck],
            batches=sum(len(tenant.owed) for tenant in tenants.all),
            lines=sum(len(owed.custom_ids) for tenant in tenants.all for owed in tenant.owed),
            uploads=sum((tenant.parts.ends for tenant in tenants.all), Counter()),
            attempts=stranger.counts,
            flooded=(flood.asked, flood.refused),
            good=here.upstream.control.seen()["good"],
            answers=tenants.answers,
            given_up=[failure for tenant in tenants.all for failure in tenant.failures],
            broken=broken,
        )
