from django.conf import settings
from django.core.validators import MinValueValidator
from django.db import models
from django.utils import timezone

from billing_app.models.fields import ExactDecimalField
from config.api.scopes import Scope


def default_files() -> int:
    return settings.QUOTA_FILES


def default_bytes() -> int:
    return settings.QUOTA_BYTES


class Account(models.Model):
    """A tenant, and the unit that is billed. What operators edit; where it stands is in Balance and StorageUse."""

    name = models.CharField(max_length=100, unique=True)
    is_enabled = models.BooleanField("enabled", default=True, help_text="A disabled account is refused with 403.")
    weight = models.PositiveSmallIntegerField(
        default=1, validators=[MinValueValidator(1)], help_text="Share of a model that is busy: 2 gets twice 1."
    )
    max_files = models.PositiveIntegerField(default=default_files, help_text="Files that it may keep (F9).")
    max_bytes = models.PositiveBigIntegerField(default=default_bytes, help_text="Bytes that it may keep (F9).")
    max_active_batches = models.PositiveIntegerField(
        null=True, blank=True, help_text="Batches that have not ended yet, at most. Empty: no limit."
    )
    monthly_budget = ExactDecimalField(
        null=True, blank=True, help_text="Alerts are given at 50, 80 and 100 % of it. Empty: no budget."
    )
    budget_is_hard = models.BooleanField(
        "stop at the budget",
        default=False,
        help_text="Once it is used up, new batches are refused; running ones go on.",
    )
    alert_email = models.EmailField(blank=True, help_text="Who is told when the budget is used up to 50, 80, 100 %.")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(condition=models.Q(weight__gte=1), name="account_weight_at_least_1"),
            models.CheckConstraint(
                condition=models.Q(monthly_budget=None) | models.Q(monthly_budget__gte=0),
                name="account_budget_not_negative",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class APIKey(models.Model):
    """Shown once, kept as a hash."""

    account = models.ForeignKey(Account, models.CASCADE, related_name="keys")
    key_hash = models.CharField(max_length=64, unique=True, editable=False)
    hint = models.CharField("key", max_length=16, editable=False, help_text="Its first and last four characters.")
    name = models.CharField(max_length=100, blank=True, help_text="What it is for.")
    monthly_limit = ExactDecimalField(
        null=True, blank=True, help_text="Once it has spent so much in a month, its new batches are refused."
    )
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        verbose_name = "API key"
        ordering = ["-id"]
        permissions = [("revoke_apikey", "Can revoke API keys")]

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


class RateLimit(models.Model):
    """B9: a limit of the account's own. No row: the limit in the settings."""

    account = models.ForeignKey(Account, models.CASCADE, related_name="rate_limits")
    scope = models.CharField(max_length=32, choices=[(str(scope), str(scope)) for scope in Scope])
    per_minute = models.PositiveIntegerField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["account", "scope"], name="one_rate_limit_per_scope")]

    def __str__(self) -> str:
        return f"{self.account}: {self.scope} {self.per_minute}/min"
