"""Money. Rows of these tables are added and never changed."""

from django.db import models
from django.utils import timezone

from billing_app.models.accounts import Account, APIKey
from billing_app.models.fields import ExactDecimalField
from billing_app.pricing import Rates, Tokens


class Price(models.Model):
    """One version of a model's price, per million tokens. A new price is a new row."""

    model_name = models.CharField(max_length=200)
    input_price = ExactDecimalField()
    output_price = ExactDecimalField()
    batch_discount = ExactDecimalField()
    currency = models.CharField(max_length=3, default="USD")
    effective_from = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["model_name", "-effective_from", "-id"]
        indexes = [models.Index(fields=["model_name", "-effective_from"], name="price_by_model")]

    def __str__(self) -> str:
        return f"{self.model_name} {self.input_price}/{self.output_price} {self.currency}"

    @property
    def rates(self) -> Rates:
        return Rates(self.input_price, self.output_price, self.batch_discount, self.currency)


class UsageEntry(models.Model):
    """What one checkpoint's successes cost, with the price that applied.

    `batch_id` and `model_name` are text, not foreign keys: entries outlive batches, files and models.
    `key` names the fact that is billed, and is unique: a fact is billed once.
    """

    key = models.CharField(max_length=100, unique=True)
    account = models.ForeignKey(Account, models.PROTECT, related_name="usage_entries")
    api_key = models.ForeignKey(APIKey, models.SET_NULL, null=True, related_name="+")
    batch_id = models.CharField(max_length=64, db_index=True)
    model_name = models.CharField(max_length=200)
    price = models.ForeignKey(Price, models.PROTECT, related_name="+")
    requests = models.PositiveIntegerField()
    input_tokens = models.PositiveBigIntegerField()
    cached_tokens = models.PositiveBigIntegerField()
    output_tokens = models.PositiveBigIntegerField()
    reasoning_tokens = models.PositiveBigIntegerField()
    amount = ExactDecimalField()
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        verbose_name_plural = "usage entries"
        ordering = ["-id"]
        indexes = [models.Index(fields=["account", "created_at"], name="usage_by_account")]

    def __str__(self) -> str:
        return f"{self.batch_id} {self.amount}"

    @property
    def tokens(self) -> Tokens:
        return Tokens(self.input_tokens, self.cached_tokens, self.output_tokens, self.reasoning_tokens)
