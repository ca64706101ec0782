"""How states look on every page: one colour and one word for each."""

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext, pgettext_lazy

from batches_app.models import Operation
from batches_app.states import Status

Kind, State = Operation.Kind, Operation.State

_LOOKS: dict[str, tuple[str, Promise | str]] = {
    Status.VALIDATING: ("info", pgettext_lazy("state of a batch", "Validating")),
    Status.IN_PROGRESS: ("info", pgettext_lazy("state of a batch", "In progress")),
    Status.FINALIZING: ("info", pgettext_lazy("state of a batch", "Finalizing")),
    Status.COMPLETED: ("ok", pgettext_lazy("state of a batch", "Completed")),
    Status.FAILED: ("danger", pgettext_lazy("state of a batch", "Failed")),
    Status.EXPIRED: ("warning", pgettext_lazy("state of a batch", "Expired")),
    Status.CANCELLING: ("warning", pgettext_lazy("state of a batch", "Cancelling")),
    Status.CANCELLED: ("neutral", pgettext_lazy("state of a batch", "Cancelled")),
}
_OPERATION_LOOKS: dict[str, tuple[str, Promise | str]] = {
    State.DRAFT: ("neutral", pgettext_lazy("state of an operation", "To be confirmed")),
    State.RUNNING: ("info", pgettext_lazy("state of an operation", "Running")),
    State.DONE: ("ok", pgettext_lazy("state of an operation", "Done")),
    State.ABORTED: ("warning", pgettext_lazy("state of an operation", "Aborted")),
    State.FAILED: ("danger", pgettext_lazy("state of an operation", "Failed")),
}
_KINDS: dict[str, Promise | str] = {
    Kind.CANCEL: _("Cancel batches"),
    Kind.RETRY: _("Retry failed lines"),
}


def tone(status: str) -> str:
    """Of a batch: ok, info, warning, danger or neutral, as `badge` takes it."""
    return _LOOKS[status][0]


def label(status: str) -> Promise | str:
    """Of a batch, in the viewer's language."""
    return _LOOKS[status][1]


def operation_tone(state: str) -> str:
    return _OPERATION_LOOKS[state][0]


def operation_label(state: str) -> Promise | str:
    return _OPERATION_LOOKS[state][1]


def kind_label(kind: str) -> Promise | str:
    return _KINDS[kind]


def operation_title(operation: Operation) -> str:
    """What it does, with the number: also on the button that starts it."""
    total = operation.total
    if operation.kind == Kind.RETRY:
        text = ngettext("Retry %(count)s failed line", "Retry %(count)s failed lines", total)
    else:
        text = ngettext("Cancel %(count)s batch", "Cancel %(count)s batches", total)
    return text % {"count": f"{total:,}"}
