"""Money. Prices, entries and closed months are added and never changed: triggers refuse it. Balance, Hold,
MonthlySpend and DailyUsage are what the entries add up to, moved in the transaction that adds them."""

from django.db import models
from django.db.models import Q
from django.utils import timezone

from billing_app.models.accounts import Account, APIKey
from billing_app.models.fields import ExactDecimalField
from billing_app.pricing import Rates, Tokens


class Price(models.Model):
    """One version of a model's price, per million tokens. A new price is a new row."""

    model_name = models.CharField("model", max_length=200)
    input_price = ExactDecimalField()
    cached_input_price = ExactDecimalField(
        null=True, blank=True, help_text="Of input tokens that the upstream had in its cache. Empty: the input price."
    )
    output_price = ExactDecimalField()
    batch_discount = ExactDecimalField(help_text="Factor on the real-time price: 0.5 charges half.")
    currency = models.CharField(max_length=3, default="USD")
    effective_from = models.DateTimeField(default=timezone.now, help_text="Batches created from then on pay it.")

    class Meta:
        ordering = ["model_name", "-effective_from", "-id"]
        indexes = [models.Index(fields=["model_name", "-effective_from"], name="price_by_model")]
        constraints = [
            models.CheckConstraint(
                condition=Q(input_price__gte=0)
                & Q(output_price__gte=0)
                & (Q(cached_input_price=None) | Q(cached_input_price__gte=0)),
                name="price_not_negative",
            ),
            models.CheckConstraint(
                condition=Q(batch_discount__gte=0) & Q(batch_discount__lte=1), name="batch_discount_from_0_to_1"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.model_name} {self.input_price}/{self.output_price} {self.currency}"

    @property
    def rates(self) -> Rates:
        return Rates(self.input_price, self.output_price, self.batch_discount, self.currency, self.cached_input_price)


class LedgerEntry(models.Model):
    """One movement of an account's money: the balance is the sum of `amount`, what is reserved the sum of `held`.

    A usage entry is what one checkpoint's successes cost, at its batch's price; of a prepaid batch it settles that
    much of the hold. `key` names the fact that is booked, and is unique: a fact is booked once, for ever.
    `batch_id` and `model_name` are text, and the key is no constraint: entries outlive batches, files and keys.
    """

    class Kind(models.TextChoices):
        USAGE = "usage"
        TOP_UP = "top_up", "top-up"
        ADJUSTMENT = "adjustment"
        HOLD_PLACED = "hold_placed", "hold placed"
        HOLD_RELEASED = "hold_released", "hold released"

    key = models.CharField(max_length=200, unique=True, editable=False)
    account = models.ForeignKey(Account, models.PROTECT, related_name="entries")
    kind = models.CharField(max_length=16, choices=Kind)
    amount = ExactDecimalField()
    held = ExactDecimalField(default=0)
    month = models.CharField(max_length=7, help_text="Of the statement that it is on: 2026-11.")
    created_at = models.DateTimeField(default=timezone.now)
    reason = models.CharField(max_length=500, blank=True)
    made_by = models.CharField(max_length=150, blank=True)

    # Of usage and of holds
    batch_id = models.CharField("batch", max_length=64, blank=True, db_index=True)
    api_key = models.ForeignKey(APIKey, models.DO_NOTHING, null=True, db_constraint=False, related_name="+")

    # Of usage
    model_name = models.CharField("model", max_length=200, blank=True)
    price = models.ForeignKey(Price, models.PROTECT, null=True, related_name="+")
    requests = models.PositiveIntegerField(default=0)
    input_tokens = models.PositiveBigIntegerField(default=0)
    cached_tokens = models.PositiveBigIntegerField(default=0)
    output_tokens = models.PositiveBigIntegerField(default=0)
    reasoning_tokens = models.PositiveBigIntegerField(default=0)

    class Meta:
        verbose_name_plural = "ledger entries"
        ordering = ["-id"]
        permissions = [
            ("add_credit", "Can add credit to accounts"),
            ("make_adjustment", "Can adjust balances"),
            ("download_statement", "Can download statements"),
        ]
        indexes = [
            models.Index(fields=["account", "month"], name="entries_by_month"),
            models.Index(fields=["account", "created_at"], name="entries_by_time"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=~Q(kind="usage") | (Q(amount__lte=0) & Q(held__lte=0) & Q(price__isnull=False)),
                name="usage_costs_and_has_a_price",
            ),
            models.CheckConstraint(condition=~Q(kind="top_up") | Q(amount__gt=0, held=0), name="top_up_adds"),
            models.CheckConstraint(
                condition=~Q(kind="adjustment") | (~Q(amount=0) & ~Q(reason="") & Q(held=0)),
                name="adjustment_has_a_reason",
            ),
            models.CheckConstraint(
                condition=~Q(kind="hold_placed") | Q(amount=0, held__gte=0), name="placing_a_hold_moves_no_money"
            ),
            models.CheckConstraint(
                condition=~Q(kind="hold_released") | Q(amount=0, held__lte=0), name="releasing_a_hold_moves_no_money"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.amount} {self.batch_id}".strip()

    @property
    def tokens(self) -> Tokens:
        return Tokens(self.input_tokens, self.cached_tokens, self.output_tokens, self.reasoning_tokens)


class Balance(models.Model):
    """Where an account stands: `available` may be spent, `held` is reserved for batches under way; both together are
    the balance. The row's lock is what everything that moves an account's money takes."""

    account = models.OneToOneField(Account, models.CASCADE, primary_key=True, related_name="balance")
    is_prepaid = models.BooleanField(default=False)
    available = ExactDecimalField(default=0)
    held = ExactDecimalField(default=0)
    closed_through = models.CharField(max_length=7, blank=True, help_text="The last month that was closed.")

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(is_prepaid=False) | Q(available__gte=0), name="prepaid_balance_not_negative"
            ),
            models.CheckConstraint(condition=Q(held__gte=0), name="held_not_negative"),
        ]

    def __str__(self) -> str:
        return f"{self.account}: {self.available} available, {self.held} held"


class Hold(models.Model):
    """Credit that is reserved for one batch of a prepaid account: its worst case, less what was settled so far."""

    batch_id = models.CharField(max_length=64, unique=True)
    account = models.ForeignKey(Account, models.PROTECT, related_name="holds")
    placed = ExactDecimalField()
    left = ExactDecimalField()
    created_at = models.DateTimeField(default=timezone.now)
    released_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(left__gte=0), name="hold_not_overdrawn")]
        indexes = [models.Index(fields=["account"], condition=Q(released_at=None), name="open_holds")]

    def __str__(self) -> str:
        return f"{self.batch_id}: {self.left} of {self.placed}"


class MonthlySpend(models.Model):
    """What an account was charged in a month, by key: for budgets, limits of keys and the eye."""

    account = models.ForeignKey(Account, models.CASCADE, related_name="monthly_spends")
    api_key_id = models.BigIntegerField(default=0, help_text="0: none.")
    month = models.CharField(max_length=7)
    amount = ExactDecimalField(default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["account", "month", "api_key_id"], name="one_spend_per_month")]

    def __str__(self) -> str:
        return f"{self.account} {self.month}: {self.amount}"


class DailyUsage(models.Model):
    """What an account used of a model in a day at one price: the day is that of TIME_ZONE in which it was booked.

    Tokens, not amounts: those are whole numbers, which a database adds up exactly. Each sum is priced once.
    """

    account = models.ForeignKey(Account, models.CASCADE, related_name="daily_usage")
    model_name = models.CharField(max_length=200)
    price = models.ForeignKey(Price, models.PROTECT, related_name="+")
    day = models.DateField()
    requests = models.PositiveBigIntegerField(default=0)
    input_tokens = models.PositiveBigIntegerField(default=0)
    cached_tokens = models.PositiveBigIntegerField(default=0)
    output_tokens = models.PositiveBigIntegerField(default=0)
    reasoning_tokens = models.PositiveBigIntegerField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["account", "model_name", "price", "day"], name="one_daily_usage_per_price")
        ]
        indexes = [models.Index(fields=["day"], name="daily_usage_by_day")]

    def __str__(self) -> str:
        return f"{self.account} {self.model_name} {self.day}"


class BudgetAlert(models.Model):
    """A month's spending has reached so many per cent of the budget. Once per crossing: another budget is crossed
    anew."""

    account = models.ForeignKey(Account, models.CASCADE, related_name="budget_alerts")
    month = models.CharField(max_length=7)
    percent = models.PositiveSmallIntegerField()
    budget = ExactDecimalField()
    spent = ExactDecimalField()
    created_at = models.DateTimeField(default=timezone.now)
    claimed_until = models.DateTimeField(null=True)
    sent_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["account", "month", "percent", "budget"], name="one_alert_per_crossing")
        ]
        indexes = [models.Index(fields=["created_at"], condition=Q(sent_at=None), name="alerts_to_send")]

    def __str__(self) -> str:
        return f"{self.account}: {self.percent} % of the budget for {self.month} is used"


class ClosedMonth(models.Model):
    """No entry comes into a closed month any more: a late one is on the next month's statement."""

    account = models.ForeignKey(Account, models.PROTECT, related_name="closed_months")
    month = models.CharField(max_length=7)
    opening = ExactDecimalField()
    closing = ExactDecimalField()
    closed_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-month"]
        constraints = [models.UniqueConstraint(fields=["account", "month"], name="a_month_is_closed_once")]

    def __str__(self) -> str:
        return f"{self.account} {self.month}"
