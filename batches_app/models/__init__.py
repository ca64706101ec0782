from batches_app.models.batch import Batch
from batches_app.models.routing import Lane, ServedModel
from batches_app.models.shard import Checkpoint, Shard

__all__ = ["Batch", "Checkpoint", "Lane", "ServedModel", "Shard"]
