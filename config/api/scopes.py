"""What is counted together for a rate limit (B9)."""

from enum import StrEnum


class Scope(StrEnum):
    FILES_CREATE = "files.create"
    FILES_LIST = "files.list"
    FILES_RETRIEVE = "files.retrieve"
    FILES_DELETE = "files.delete"
    FILES_CONTENT = "files.content"
    UPLOADS_CREATE = "uploads.create"
    UPLOADS_PARTS = "uploads.parts"
    UPLOADS_COMPLETE = "uploads.complete"
    UPLOADS_CANCEL = "uploads.cancel"
    BATCHES_CREATE = "batches.create"
    BATCHES_LIST = "batches.list"
    BATCHES_RETRIEVE = "batches.retrieve"
    BATCHES_CANCEL = "batches.cancel"
    BATCHES_ESTIMATE = "batches.estimate"
    MODELS = "models"
    USAGE = "usage"
