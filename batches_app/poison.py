"""Lines that take down whoever sends them. None is lost, and none is allowed to do it for ever.

A shard that two holders died with is run by a lane that has nothing else in hand, so that no other has to suffer for
it. One that a third died with is run a line at a time, each noted before it is sent: three deaths with the same line,
and it has its result, an error. Which other lines were in flight before is not known, and need not be: they are sent
again, as after any death.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from django.db.models import F, Q, QuerySet

from batches_app.models import Shard
from batches_app.models.shard import SUSPICIOUS

ALONE = SUSPICIOUS
SINGLY = 3  # losses
MOST_CRASHES = 3  # of one line

SUSPECT = Q(losses__gte=ALONE)
MESSAGE = f"This request took the process that sent it down {MOST_CRASHES} times, and is not sent again."


@dataclass(slots=True)
class Suspicion:
    """What a lane heeds of the shard that it took last: to have nothing else in hand, and to send a line at a time."""

    is_alone: bool = False
    is_single: bool = False

    def took(self, shard: Shard) -> None:
        self.is_alone, self.is_single = shard.losses >= ALONE, shard.losses >= SINGLY

    def allowance(self, allowed: int, in_flight: int) -> int:
        return min(allowed, 1 - in_flight) if self.is_single else allowed


def is_given_up(crashes: Mapping[str, int], line: int) -> bool:
    return crashes.get(str(line), 0) >= MOST_CRASHES


def note_losses(lost: "QuerySet[Shard]") -> None:
    """Of a holder that died, before they are set free."""
    lost.update(losses=F("losses") + 1)
    for shard in lost.exclude(suspect_line=None):
        line = str(shard.suspect_line)
        crashes = shard.crashes | {line: shard.crashes.get(line, 0) + 1}
        Shard.objects.filter(pk=shard.pk).update(crashes=crashes, suspect_line=None)


def about_to_send(mine: "QuerySet[Shard]", line: int) -> None:
    mine.update(suspect_line=line)


def suspects_wait(model_id: int) -> bool:
    """For a lane that has nothing in hand."""
    return Shard.objects.filter(SUSPECT, model=model_id, state=Shard.State.WAITING).exists()
