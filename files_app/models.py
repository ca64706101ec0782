from datetime import datetime

from django.db import models
from django.utils import timezone

from billing_app.models import Account, Reservation
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


class MultipartUploadQuerySet(models.QuerySet["MultipartUpload"]):
    def pending(self, now: datetime) -> "MultipartUploadQuerySet":
        return self.filter(status=MultipartUpload.Status.PENDING, expires_at__gt=now)

    def due(self, now: datetime) -> "MultipartUploadQuerySet":
        return self.filter(status=MultipartUpload.Status.PENDING, expires_at__lte=now)

    def ended(self) -> "MultipartUploadQuerySet":
        return self.exclude(status=MultipartUpload.Status.PENDING)


class MultipartUpload(models.Model):
    """A file that comes in parts (F10). Its status changes once, by `retention.end_upload`."""

    class Status(models.TextChoices):
        PENDING = "pending"
        COMPLETED = "completed"
        CANCELLED = "cancelled"
        EXPIRED = "expired"

    public_id = models.CharField(max_length=64, unique=True, default=ids.upload_id)
    account = models.ForeignKey(Account, models.PROTECT, related_name="multipart_uploads")
    status = models.CharField(max_length=16, choices=Status, default=Status.PENDING)
    filename = models.CharField(max_length=512)
    purpose = models.CharField(max_length=16, choices=StoredFile.Purpose)
    bytes = models.PositiveBigIntegerField(help_text="As announced.")
    received = models.PositiveBigIntegerField(default=0, help_text="Bytes of all its parts.")
    expires_after = models.PositiveIntegerField(null=True, help_text="Seconds that the file will be kept.")
    # Without a constraint: to give room back is not to wait for this row, whose lock comes before the reservation's.
    reservation = models.ForeignKey(Reservation, models.DO_NOTHING, db_constraint=False, related_name="+")
    lease_expires_at = models.DateTimeField(null=True)
    file_public_id = models.CharField(max_length=64, blank=True)
    completed_by = models.CharField(max_length=64, blank=True, help_text="Fingerprint of the request.")
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField()

    objects = MultipartUploadQuerySet.as_manager()

    class Meta:
        default_permissions = ()  # nobody looks at one but its tenant
        indexes = [
            models.Index(fields=["expires_at"], condition=models.Q(status="pending"), name="uploads_to_expire"),
        ]

    def __str__(self) -> str:
        return self.public_id

    def status_at(self, now: datetime) -> str:
        """The reconciler may not have come by yet."""
        overdue = self.status == self.Status.PENDING and self.expires_at <= now
        return self.Status.EXPIRED if overdue else self.status

    @property
    def file(self) -> StoredFile | None:
        """Once it is completed, until that is deleted."""
        return StoredFile.objects.visible().filter(public_id=self.file_public_id).first()

    @property
    def room(self) -> Reservation | None:
        return Reservation.objects.filter(pk=self.reservation_id).first()


class UploadPart(models.Model):
    """Some of an upload's bytes. Their order is for the completion to say."""

    public_id = models.CharField(max_length=64, unique=True, default=ids.part_id)
    # An upload is forgotten when it has no parts any more: there is nothing to collect.
    upload = models.ForeignKey(MultipartUpload, models.DO_NOTHING, related_name="parts")
    bytes = models.PositiveBigIntegerField()
    blob = models.CharField(max_length=200, unique=True)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.public_id
