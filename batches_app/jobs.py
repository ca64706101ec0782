"""The doors that RQ knocks on. Ids as arguments; unknown arguments are ignored, so that an old worker survives a
new payload. Every job may be delivered twice, late, or never."""

from batches_app import clock, execution, finalization, lanes, operations, probing, reconciliation, validation
from config.roomy import roomy


@roomy
def validate(**_: object) -> None:
    """As many bells as batches, but each is for whichever is next."""
    validation.validate_next()


@roomy
def run_lane(*, lane_id: int, **_: object) -> None:
    execution.run_lane(lane_id)


@roomy
def finalize(*, batch_id: int, **_: object) -> None:
    finalization.finalize(batch_id)


def reconcile(**_: object) -> None:
    reconciliation.reconcile(now=clock.now())


def bury(*, owner: str, **_: object) -> None:
    lanes.free_lanes_of(owner, now=clock.now())


def probe(*, model_id: int, **_: object) -> None:
    probing.probe(model_id)


def operate(*, operation_id: int, **_: object) -> None:
    operations.carry_out(operation_id)
