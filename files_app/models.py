from django.db import models
from django.utils import timezone

from billing_app.models import Account
from config.api import ids


class StoredFileQuerySet(models.QuerySet["StoredFile"]):
    def visible(self) -> "StoredFileQuerySet":
        return self.filter(deleted_at=None)


class StoredFile(models.Model):
    """A tenant's file. Its bytes are the blob; they stay while a hold needs them, deleted or not (F6)."""

    class Purpose(models.TextChoices):
        BATCH = "batch"
        BATCH_OUTPUT = "batch_output"

    public_id = models.CharField(max_length=64, unique=True, default=ids.input_file_id)
    account = models.ForeignKey(Account, models.PROTECT, related_name="files")
    purpose = models.CharField(max_length=16, choices=Purpose)
    filename = models.CharField(max_length=512)
    bytes = models.PositiveBigIntegerField()
    sha256 = models.CharField(max_length=64)
    blob = models.CharField(max_length=200, unique=True)
    idempotency_key = models.CharField(max_length=255, null=True)  # noqa: DJ001  # null, so that files without one are not "the same"
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(null=True)
    deleted_at = models.DateTimeField(null=True)

    objects = StoredFileQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["account", "idempotency_key"], name="one_file_per_idempotency_key"),
        ]
        indexes = [
            models.Index(fields=["account", "-id"], condition=models.Q(deleted_at=None), name="files_newest_first"),
            models.Index(fields=["expires_at"], condition=models.Q(deleted_at=None), name="files_to_expire"),
            models.Index(fields=["deleted_at"], condition=~models.Q(deleted_at=None), name="files_to_remove"),
            # The console's list
            models.Index(fields=["created_at", "id"], name="files_by_creation"),
            models.Index(fields=["account", "created_at", "id"], name="files_by_account"),
        ]

    def __str__(self) -> str:
        return self.public_id


class FileHold(models.Model):
    """Somebody (a batch, by its id) still needs the bytes of a file."""

    file = models.ForeignKey(StoredFile, models.PROTECT, related_name="holds")
    holder = models.CharField(max_length=64)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["file", "holder"], name="one_hold_per_holder")]

    def __str__(self) -> str:
        return f"{self.holder} holds {self.file}"
