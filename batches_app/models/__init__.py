from batches_app.models.batch import Batch
from batches_app.models.operating import (
    BatchEvent,
    ErrorGroup,
    LaneMinute,
    ModelTraffic,
    Operation,
    ReconcileRun,
    SavedView,
)
from batches_app.models.routing import Lane, ServedModel
from batches_app.models.shard import Checkpoint, Shard

__all__ = [
    "Batch",
    "BatchEvent",
    "Checkpoint",
    "ErrorGroup",
    "Lane",
    "LaneMinute",
    "ModelTraffic",
    "Operation",
    "ReconcileRun",
    "SavedView",
    "ServedModel",
    "Shard",
]
