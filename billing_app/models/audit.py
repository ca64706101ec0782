from typing import Any

from django.db import models
from django.utils import timezone


class AuditEntry(models.Model):
    """Who did what, when, to what, from what to what, and why. Added, never changed.

    All text: entries outlive operators, accounts and batches.
    """

    created_at = models.DateTimeField("when", default=timezone.now, db_index=True)
    actor = models.CharField("who", max_length=150)
    address = models.CharField("from where", max_length=64, blank=True)
    action = models.CharField("what", max_length=64, help_text="Such as price.added, key.revoked.")
    target = models.CharField("on what", max_length=200)
    account = models.CharField(max_length=100, blank=True, db_index=True)
    changes: "models.JSONField[Any, Any]" = models.JSONField(
        default=dict, blank=True, help_text="Each field's value before and after."
    )
    reason = models.CharField("why", max_length=500, blank=True)

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "audit entries"
        indexes = [
            models.Index(fields=["actor"], name="audit_by_actor"),
            # By its beginning: batch.…
            models.Index(fields=["action"], name="audit_by_action", opclasses=["varchar_pattern_ops"]),
        ]

    def __str__(self) -> str:
        return f"{self.actor}: {self.action} {self.target}"
