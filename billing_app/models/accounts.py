from django.db import models
from django.utils import timezone


class Account(models.Model):
    """A tenant, and the unit that is billed."""

    name = models.CharField(max_length=100, unique=True)
    is_enabled = models.BooleanField(default=True)
    weight = models.PositiveSmallIntegerField(default=1, help_text="Share of a model that is busy: 2 gets twice 1.")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["name"]
        constraints = [models.CheckConstraint(condition=models.Q(weight__gte=1), name="account_weight_at_least_1")]

    def __str__(self) -> str:
        return self.name


class APIKey(models.Model):
    """Shown once, kept as a hash."""

    account = models.ForeignKey(Account, models.CASCADE, related_name="keys")
    key_hash = models.CharField(max_length=64, unique=True, editable=False)
    hint = models.CharField(max_length=16, editable=False, help_text="The key's first and last four characters.")
    name = models.CharField(max_length=100, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.hint} {self.name}".strip()


class EnqueuedTokenLimit(models.Model):
    """V12: the most tokens that an account may have enqueued for one model. No row, no limit."""

    account = models.ForeignKey(Account, models.CASCADE, related_name="enqueued_token_limits")
    model_name = models.CharField(max_length=200)
    tokens = models.PositiveBigIntegerField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["account", "model_name"], name="one_token_limit_per_model")]

    def __str__(self) -> str:
        return f"{self.account}: {self.model_name} {self.tokens}"
