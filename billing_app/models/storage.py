"""What an account keeps, and what its uploads under way will need (F9). Counters, moved by `quotas` alone."""

from django.db import models
from django.utils import timezone

from billing_app.models.accounts import Account


class StorageUse(models.Model):
    """`files` and `bytes` are kept, `pending_…` are reserved by uploads under way."""

    account = models.OneToOneField(Account, models.CASCADE, primary_key=True, related_name="storage_use")
    files = models.PositiveIntegerField(default=0)
    bytes = models.PositiveBigIntegerField(default=0)
    pending_files = models.PositiveIntegerField(default=0)
    pending_bytes = models.PositiveBigIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.account}: {self.files} files, {self.bytes} bytes"


class Reservation(models.Model):
    """Room for one upload under way. A process that dies leaves it behind: it is void at `expires_at`."""

    account = models.ForeignKey(Account, models.CASCADE, related_name="reservations")
    bytes = models.PositiveBigIntegerField()
    idempotency_key = models.CharField(max_length=255, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return f"{self.account}: {self.bytes} bytes"
