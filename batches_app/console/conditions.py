"""How the states of models and of workers look and what is said of them."""

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from batches_app.health import State

_LOOKS: dict[State, tuple[str, Promise | str]] = {
    State.DOWN: ("danger", pgettext_lazy("state of a model", "Down")),
    State.THROTTLED: ("warning", pgettext_lazy("state of a model", "Throttled")),
    State.UNSERVED: ("info", pgettext_lazy("state of a model", "Waits for a worker")),
    State.PAUSED: ("warning", pgettext_lazy("state of a model", "Paused")),
    State.UP: ("ok", pgettext_lazy("state of a model", "Up")),
    State.IDLE: ("neutral", pgettext_lazy("state of a model", "Idle")),
}

# What the steps of the reconciler heal; the names are those of its functions.
HEALED: dict[str, Promise | str] = {
    "expire_due": _("Batches past their deadline"),
    "free_dead_lanes": _("Lanes whose worker had died"),
    "complete_done": _("Batches that were done and not ended"),
    "ring_unheard_stages": _("Batches that nobody validated or finished"),
    "ring_unheard_lanes": _("Lanes that nobody had taken up"),
    "ring_unheard_probes": _("Probes that nobody had made"),
    "ring_unheld": _("Operations that nobody carried out"),
    "forget_drafts": _("Operations that were never confirmed"),
    "remove_files": _("Files that had expired"),
    "sweep_orphans": _("Bytes that belonged to nothing"),
    "close_due": _("Months that were to be closed"),
    "send_due": _("Budget alerts that were to be sent"),
}


def tone(state: State) -> str:
    return _LOOKS[state][0]


def label(state: State) -> Promise | str:
    return _LOOKS[state][1]


def healed(step: str) -> Promise | str:
    return HEALED.get(step, step)
