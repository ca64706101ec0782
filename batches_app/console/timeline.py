"""What became of a batch, from its creation on: its states, and the lanes that worked on it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from batches_app.console import looks
from batches_app.models import Batch, BatchEvent
from batches_app.states import STAMPED, Status

Kind = BatchEvent.Kind
MOST_EVENTS = 30  # of lanes; of more the first and the last are shown

_LANES: dict[str, tuple[str, Promise | str]] = {
    Kind.CLAIMED: ("info", gettext_lazy("A lane began to work on it")),
    Kind.RELEASED: ("neutral", gettext_lazy("A lane gave it back")),
    Kind.LOST: ("warning", gettext_lazy("The lane's worker died; its lines wait again")),
}


@dataclass(frozen=True, slots=True)
class Moment:
    at: datetime | None  # None: events that are left out
    text: Promise | str
    tone: str = "neutral"
    detail: str = ""


def of(batch: Batch) -> list[Moment]:
    """The oldest first."""
    states = [Moment(batch.created_at, _("Created"), "info"), *_states(batch)]
    return sorted([*states, *_of_lanes(batch)], key=lambda moment: moment.at or batch.created_at)


def _states(batch: Batch) -> Iterator[Moment]:
    for status in STAMPED:
        if at := getattr(batch, f"{status}_at"):
            yield Moment(at, looks.label(status), looks.tone(status), _detail(batch, status))
    if batch.sealed_at:
        yield Moment(batch.sealed_at, _("Sealed: from here on no result is accepted"))


def _detail(batch: Batch, status: Status) -> str:
    if status == Status.IN_PROGRESS:
        text = ngettext("%(n)s request passed the checks", "%(n)s requests passed the checks", batch.total)
        return text % {"n": f"{batch.total:,}"}
    return ""


def _of_lanes(batch: Batch) -> Iterable[Moment]:
    newest = list(batch.events.order_by("-pk")[: MOST_EVENTS + 1])[::-1]
    if len(newest) <= MOST_EVENTS:
        return map(_event, newest)
    first, last = list(batch.events.order_by("pk")[: MOST_EVENTS // 2]), newest[-MOST_EVENTS // 2 :]
    left_out = batch.events.count() - len(first) - len(last)
    text = ngettext("%(n)s more event of lanes", "%(n)s more events of lanes", left_out) % {"n": f"{left_out:,}"}
    # Its place in the row is after the first ones.
    return [*map(_event, first), Moment(first[-1].at, text), *map(_event, last)]


def _event(event: BatchEvent) -> Moment:
    tone, text = _LANES[event.kind]
    return Moment(event.at, text, tone, " · ".join(filter(None, [event.lane, event.owner])))
