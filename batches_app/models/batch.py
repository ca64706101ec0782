from decimal import Decimal
from typing import Any

from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from batches_app.models.routing import ServedModel
from batches_app.states import TERMINAL, Status
from billing_app import prices
from billing_app.models import Account, APIKey, Price
from billing_app.pricing import Tokens, charge
from config.api import ids
from files_app.models import StoredFile


class Batch(models.Model):
    public_id = models.CharField(max_length=64, unique=True, default=ids.batch_id)
    account = models.ForeignKey(Account, models.PROTECT, related_name="batches")
    api_key = models.ForeignKey(APIKey, models.SET_NULL, null=True, related_name="+")
    endpoint = models.CharField(max_length=100)
    completion_window = models.CharField(max_length=8)
    metadata = models.JSONField(null=True)
    name = models.CharField(max_length=100, blank=True, help_text="metadata.ds_name")
    output_expires_after = models.PositiveIntegerField(null=True, help_text="Seconds from a result file's creation.")
    idempotency_key = models.CharField(max_length=255, null=True)  # noqa: DJ001  # null, so that batches without one are not "the same"
    request_fingerprint = models.CharField(max_length=64, blank=True)

    # The ids are the wire's; the row is gone once the tenant deleted the file and no batch needs its bytes.
    input_file_id = models.CharField(max_length=64, db_index=True)
    source = models.ForeignKey(StoredFile, models.SET_NULL, null=True, related_name="+")
    output_file_id = models.CharField(max_length=64, blank=True)
    error_file_id = models.CharField(max_length=64, blank=True)

    status = models.CharField(max_length=16, choices=[(s, s) for s in Status], default=Status.VALIDATING)
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField()
    in_progress_at = models.DateTimeField(null=True)
    finalizing_at = models.DateTimeField(null=True)
    completed_at = models.DateTimeField(null=True)
    failed_at = models.DateTimeField(null=True)
    expired_at = models.DateTimeField(null=True)
    cancelling_at = models.DateTimeField(null=True)
    cancelled_at = models.DateTimeField(null=True)
    # From here on no checkpoint is accepted: the set of results is final and can be merged.
    sealed_at = models.DateTimeField(null=True)

    # Set by validation
    errors: "models.JSONField[Any, Any]" = models.JSONField(null=True)
    model_name = models.CharField(max_length=200, blank=True)
    model = models.ForeignKey(ServedModel, models.SET_NULL, null=True, related_name="+")
    price = models.ForeignKey(Price, models.PROTECT, null=True, related_name="+")
    enqueued_tokens = models.PositiveBigIntegerField(default=0, help_text="Estimate (V12).")
    total = models.PositiveIntegerField(default=0)

    # Moved by checkpoints
    completed = models.PositiveIntegerField(default=0)
    failed = models.PositiveIntegerField(default=0)
    flagged = models.PositiveIntegerField(default=0, help_text="Successes without usable usage: not billed, to review.")
    input_tokens = models.PositiveBigIntegerField(default=0)
    cached_tokens = models.PositiveBigIntegerField(default=0)
    output_tokens = models.PositiveBigIntegerField(default=0)
    reasoning_tokens = models.PositiveBigIntegerField(default=0)

    # A retry of another batch's failed lines: all, or those of one code
    parent: "models.ForeignKey[Batch | None, Batch | None]" = models.ForeignKey(
        "self", models.SET_NULL, null=True, related_name="retries"
    )
    retried_code = models.CharField(max_length=100, blank=True)

    # Lease of the job that validates or finalizes it
    stage_token = models.PositiveIntegerField(default=0)
    stage_expires_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "batches"
        permissions = [
            ("cancel_batch", "Can cancel batches"),
            ("retry_batch", "Can retry failed lines as a new batch"),
            ("read_contents", "Can read what tenants send and get"),
            ("use_rq", "Can use RQ's dashboard"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["account", "idempotency_key"], name="one_batch_per_idempotency_key"),
            models.CheckConstraint(condition=Q(total__gte=F("completed") + F("failed")), name="no_line_counted_twice"),
            models.CheckConstraint(condition=Q(status__in=sorted(Status)), name="batch_status_known"),
        ]
        indexes = [
            models.Index(fields=["account", "-id"], name="batches_newest_first"),
            # The console's filters, each in the order of its list, and what else a list is sorted by
            models.Index(fields=["created_at", "id"], name="batches_by_creation"),
            # Beyond the id: what else is filtered by, so that counting reads this index alone and not the rows
            models.Index(
                fields=["account", "created_at", "id", "status", "model_name", "failed"], name="batches_by_account"
            ),
            models.Index(fields=["status", "created_at", "id"], name="batches_by_status"),
            models.Index(fields=["model_name", "created_at", "id"], name="batches_by_model"),
            models.Index(fields=["endpoint", "created_at", "id"], name="batches_by_endpoint"),
            models.Index(fields=["created_at", "id"], condition=Q(failed__gt=0), name="batches_with_errors"),
            models.Index(
                fields=["failed_at", "account", "created_at", "id"],
                condition=Q(status=Status.FAILED),
                name="batches_failed_lately",
            ),
            models.Index(fields=["expires_at", "id"], name="batches_by_deadline"),
            models.Index(fields=["total", "id"], name="batches_by_size"),
            models.Index(fields=["failed", "id"], name="batches_by_failures"),
            models.Index(fields=["output_file_id"], name="batches_by_output_file"),
            models.Index(fields=["error_file_id"], name="batches_by_error_file"),
            models.Index(
                fields=["status", "expires_at"], condition=~Q(status__in=sorted(TERMINAL)), name="batches_alive"
            ),
        ]

    def __str__(self) -> str:
        return self.public_id

    @property
    def cost(self) -> Decimal:
        """So far, unrounded: what the ledger has (M1)."""
        return charge(self.tokens, prices.rates(self.price_id)) if self.price_id else Decimal(0)

    @property
    def tokens(self) -> Tokens:
        return Tokens(self.input_tokens, self.cached_tokens, self.output_tokens, self.reasoning_tokens)
