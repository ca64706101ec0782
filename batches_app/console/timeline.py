"""What became of a batch, from its creation on: its states, its files, the lanes that worked on it, and who stopped
it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

from django.template.defaultfilters import filesizeformat
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from batches_app.console import looks
from batches_app.console.batch_files import ERROR, Kept
from batches_app.models import Batch, BatchEvent
from batches_app.states import Status

Kind = BatchEvent.Kind
MOST_READ = 500  # events of lanes, the newest
MOST_EVENTS = 30  # that are shown one by one, but for those that tell of more than a lane's turn

_EVENTS: dict[str, tuple[str, Promise | str]] = {
    Kind.CLAIMED: ("info", gettext_lazy("A lane began to work on it")),
    Kind.RELEASED: ("neutral", gettext_lazy("A lane gave it back")),
    Kind.LOST: ("warning", gettext_lazy("The lane's worker died; its lines wait again")),
    Kind.CANCELLED_BY_TENANT: ("neutral", gettext_lazy("Cancelled through the API, with the key")),
    Kind.CANCELLED_BY_OPERATOR: ("neutral", gettext_lazy("Cancelled by an operator")),
    Kind.CANCELLED_FOR_CREDIT: ("warning", gettext_lazy("Cancelled because the credit of its account is used up")),
}
_TURNS = (Kind.CLAIMED, Kind.RELEASED)
# In the order in which they come, where two come at the same moment
_UNDER_WAY = (Status.IN_PROGRESS, Status.FINALIZING, Status.CANCELLING)
_ENDS = (Status.FAILED, Status.COMPLETED, Status.EXPIRED, Status.CANCELLED)


@dataclass(frozen=True, slots=True)
class Moment:
    at: datetime
    text: Promise | str
    tone: str = "neutral"
    detail: str = ""


def of(batch: Batch, results: Iterable[Kept] = ()) -> list[Moment]:
    """The oldest first. `results`: output and error file."""
    moments = [
        Moment(batch.created_at, _("Created"), "info"),
        *_states(batch, _UNDER_WAY),
        *_folded(list(batch.events.order_by("-id")[:MOST_READ])[::-1]),
        *_sealed(batch),
        *_written(results),
        *_states(batch, _ENDS),
    ]
    return sorted(moments, key=lambda moment: moment.at)


def _states(batch: Batch, states: Iterable[Status]) -> Iterator[Moment]:
    for status in states:
        if at := getattr(batch, f"{status}_at"):
            yield Moment(at, looks.label(status), looks.tone(status), _detail(batch, status))


def _detail(batch: Batch, status: Status) -> str:
    if status == Status.IN_PROGRESS:
        text = ngettext("%(n)s request passed the checks", "%(n)s requests passed the checks", batch.total)
        return text % {"n": f"{batch.total:,}"}
    return ""


def _sealed(batch: Batch) -> Iterator[Moment]:
    if batch.sealed_at:
        yield Moment(batch.sealed_at, _("Sealed: from here on no result is accepted"))


def _written(results: Iterable[Kept]) -> Iterator[Moment]:
    for kept in results:
        if kept.file is not None:
            text = _("The error file was written") if kept.kind == ERROR else _("The output file was written")
            yield Moment(kept.file.created_at, text, detail=filesizeformat(kept.file.bytes))


def _folded(events: Sequence[BatchEvent]) -> Iterator[Moment]:
    if len(events) == MOST_READ:
        yield Moment(events[0].at, _("What lanes did before is left out here"))
    kept = _kept(events)
    for is_kept, group in groupby(range(len(events)), kept.__contains__):
        run = [events[place] for place in group]
        if is_kept:
            yield from map(_event, run)
        else:
            text = ngettext("%(n)s more event of lanes", "%(n)s more events of lanes", len(run))
            yield Moment(run[0].at, text % {"n": f"{len(run):,}"})


def _kept(events: Sequence[BatchEvent]) -> set[int]:
    places = range(len(events))
    if len(events) <= MOST_EVENTS:
        return set(places)
    half = MOST_EVENTS // 2
    others = [place for place in places if events[place].kind not in _TURNS]
    return {*places[:half], *places[-half:], *others[-MOST_EVENTS:]}


def _event(event: BatchEvent) -> Moment:
    tone, text = _EVENTS[event.kind]
    return Moment(event.at, text, tone, " · ".join(filter(None, [event.lane, event.owner, event.reason])))
