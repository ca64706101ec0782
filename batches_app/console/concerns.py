"""How the overview says what needs attention, and where it leads."""

from dataclasses import dataclass

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.http import urlencode
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext_lazy

from batches_app.attention import Item, Kind
from batches_app.health import State

SHOWN_NAMES = 5


@dataclass(frozen=True, slots=True)
class Look:
    """`query`: the filter by which its page shows exactly what is meant."""

    sentence: Promise | str
    route: str
    permission: str
    query: tuple[tuple[str, str], ...] = ()


def _workers(sentence: Promise | str) -> Look:
    return Look(sentence, "workers", "batches_app.view_lane")


def _models(sentence: Promise | str, state: State) -> Look:
    return Look(sentence, "models", "batches_app.view_servedmodel", (("state", state),))


def _batches(sentence: Promise | str, kind: Kind) -> Look:
    return Look(sentence, "batches", "batches_app.view_batch", (("attention", kind),))


def _accounts(sentence: Promise | str, kind: Kind) -> Look:
    return Look(sentence, "accounts", "billing_app.view_ledgerentry", (("state", kind),))


_LOOKS: dict[Kind, Look] = {
    Kind.REDIS_AWAY: _workers(_("Redis does not answer: no worker is woken. Nothing is lost.")),
    Kind.RECONCILER_SILENT: _workers(_("The reconciler has not run for more than a minute")),
    Kind.NO_WORKERS: _workers(
        ngettext_lazy("No worker listens to a queue", "No worker listens to %(shown)s queues", "count")
    ),
    Kind.STALE_WORKERS: _workers(
        ngettext_lazy("%(shown)s worker gives no sign of life", "%(shown)s workers give no sign of life", "count")
    ),
    Kind.MODELS_DOWN: _models(
        ngettext_lazy("The upstream of a model is down", "The upstreams of %(shown)s models are down", "count"),
        State.DOWN,
    ),
    Kind.MODELS_THROTTLED: _models(
        ngettext_lazy("%(shown)s model is throttled", "%(shown)s models are throttled", "count"), State.THROTTLED
    ),
    Kind.MODELS_PAUSED: _models(
        ngettext_lazy("%(shown)s model is paused", "%(shown)s models are paused", "count"), State.PAUSED
    ),
    Kind.LATE: _batches(
        ngettext_lazy("%(shown)s batch will miss its deadline", "%(shown)s batches will miss their deadline", "count"),
        Kind.LATE,
    ),
    Kind.STUCK: _batches(
        ngettext_lazy(
            "%(shown)s batch has waited for a worker for more than 2 minutes",
            "%(shown)s batches have waited for a worker for more than 2 minutes",
            "count",
        ),
        Kind.STUCK,
    ),
    Kind.FAILED: _batches(
        ngettext_lazy(
            "%(shown)s batch failed in the last 24 hours", "%(shown)s batches failed in the last 24 hours", "count"
        ),
        Kind.FAILED,
    ),
    Kind.MANY_ERRORS: _batches(
        ngettext_lazy(
            "In %(shown)s batch a tenth of the requests or more failed",
            "In %(shown)s batches a tenth of the requests or more failed",
            "count",
        ),
        Kind.MANY_ERRORS,
    ),
    Kind.OUT_OF_CREDIT: _accounts(
        ngettext_lazy(
            "%(shown)s prepaid account has no credit left", "%(shown)s prepaid accounts have no credit left", "count"
        ),
        Kind.OUT_OF_CREDIT,
    ),
    Kind.BUDGET_USED_UP: _accounts(
        ngettext_lazy(
            "%(shown)s account has used up its budget", "%(shown)s accounts have used up their budget", "count"
        ),
        Kind.BUDGET_USED_UP,
    ),
}

CHECKED = (
    _("Redis, workers and the reconciler"),
    _("the upstreams of all models"),
    _("batches that failed, wait for a worker, or will miss their deadline"),
    _("batches with many failed requests"),
)
CHECKED_MONEY = _("credit and budgets of accounts")


@dataclass(frozen=True, slots=True)
class Concern:
    item: Item
    sentence: str
    url: str

    @property
    def names(self) -> list[tuple[str, int]]:
        return list(self.item.names[:SHOWN_NAMES])

    @property
    def more(self) -> int:
        return max(0, len(self.item.names) - SHOWN_NAMES)


def of(item: Item) -> Concern:
    look = _LOOKS[item.kind]
    query = f"?{urlencode(look.query)}" if look.query else ""
    shown = f"{item.count:,}+" if item.is_least else f"{item.count:,}"
    words = str(look.sentence % {"count": item.count, "shown": shown})
    return Concern(item, words, reverse(f"console:{look.route}") + query)


def may_see(user: AbstractBaseUser | AnonymousUser, item: Item) -> bool:
    return user.has_perm(_LOOKS[item.kind].permission)  # type: ignore[union-attr]  # a user of this installation
