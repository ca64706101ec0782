"""The states of a batch and the only ways between them (B5)."""

from enum import StrEnum


class Status(StrEnum):
    VALIDATING = "validating"
    FAILED = "failed"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


ALLOWED_FROM: dict[Status, frozenset[Status]] = {
    Status.VALIDATING: frozenset(),
    Status.FAILED: frozenset({Status.VALIDATING}),
    Status.IN_PROGRESS: frozenset({Status.VALIDATING}),
    Status.FINALIZING: frozenset({Status.IN_PROGRESS}),
    Status.COMPLETED: frozenset({Status.FINALIZING}),
    Status.EXPIRED: frozenset({Status.FINALIZING}),
    Status.CANCELLING: frozenset({Status.VALIDATING, Status.IN_PROGRESS}),
    Status.CANCELLED: frozenset({Status.CANCELLING}),
}

TERMINAL = frozenset({Status.FAILED, Status.COMPLETED, Status.EXPIRED, Status.CANCELLED})
# Lines that are in flight when a batch is stopped may still bring their results in.
ENDING = frozenset({Status.FINALIZING, Status.CANCELLING})
STAMPED = frozenset(Status) - {Status.VALIDATING}
