"""What operators see and do: a batch's history and errors, the traffic of lanes, operations on many batches."""

from typing import Any

from django.conf import settings
from django.db import models
from django.utils import timezone

from batches_app.models.batch import Batch
from batches_app.models.routing import Lane, ServedModel

QUERY_LENGTH = 2000


class BatchEvent(models.Model):
    """What became of a batch on the lanes, and who stopped it. Its states are not here: they have their columns in
    Batch."""

    class Kind(models.TextChoices):
        CLAIMED = "claimed"  # a lane began to work on it
        RELEASED = "released"  # the lane gave it back
        LOST = "lost"  # the lane's holder died, and its shards wait again
        CANCELLED_BY_TENANT = "by_tenant"
        CANCELLED_BY_OPERATOR = "by_operator"
        CANCELLED_FOR_CREDIT = "for_credit"  # its account's is used up

    batch = models.ForeignKey(Batch, models.CASCADE, related_name="events")
    at = models.DateTimeField(default=timezone.now)
    kind = models.CharField(max_length=16, choices=Kind)
    lane = models.CharField(max_length=220, blank=True, help_text="As text: the lane may be gone.")
    owner = models.CharField(max_length=200, blank=True, help_text="Of the lane; or who stopped the batch.")
    # The database has the default too: workers of the version before write rows meanwhile.
    reason = models.CharField(max_length=500, blank=True, default="", db_default="")

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.batch} {self.kind} {self.lane}"


class ErrorGroup(models.Model):
    """A batch's error lines of one code; all groups together are its error file, at every moment."""

    batch = models.ForeignKey(Batch, models.CASCADE, related_name="error_groups")
    code = models.CharField(max_length=100)
    count = models.PositiveIntegerField()
    first_line = models.PositiveIntegerField()
    custom_id = models.CharField(max_length=200, help_text="Of a sample, cut.")
    message = models.CharField(max_length=500, blank=True, help_text="Of the same sample, cut.")

    class Meta:
        ordering = ["-count", "code"]
        constraints = [models.UniqueConstraint(fields=["batch", "code"], name="one_error_group_per_code")]

    def __str__(self) -> str:
        return f"{self.batch} {self.code}: {self.count}"


class LaneMinute(models.Model):
    """What one holder of a lane did in one minute. Only the holder writes it, so the values are absolute."""

    model = models.ForeignKey(ServedModel, models.CASCADE, related_name="minutes")
    lane = models.ForeignKey(Lane, models.CASCADE, related_name="minutes")
    lane_token = models.PositiveBigIntegerField()
    minute = models.DateTimeField()
    completed = models.PositiveIntegerField(default=0, help_text="Lines.")
    failed = models.PositiveIntegerField(default=0, help_text="Lines.")
    input_tokens = models.PositiveBigIntegerField(default=0)
    output_tokens = models.PositiveBigIntegerField(default=0)
    answers = models.PositiveIntegerField(default=0, help_text="Of the upstream, those to be tried again included.")
    throttled = models.PositiveIntegerField(default=0, help_text="Of the answers: 429, 503 and their like.")
    faults = models.PositiveIntegerField(
        default=0, help_text="Of the answers: none at all, or another status of 500 or more."
    )
    latency: "models.JSONField[Any, Any]" = models.JSONField(
        default=list, help_text="True answers by latency (traffic.py)."
    )
    waited_ms = models.PositiveBigIntegerField(default=0, help_text="For these answers, all together.")
    checkpoints = models.PositiveIntegerField(default=0)
    is_summed = models.BooleanField(default=False, help_text="It is in its model's ModelTraffic.")

    class Meta:
        ordering = ["minute"]
        constraints = [
            models.UniqueConstraint(fields=["lane", "lane_token", "minute"], name="one_minute_per_holder_of_a_lane")
        ]
        indexes = [
            models.Index(fields=["minute", "model"], name="minutes_by_time"),
            models.Index(fields=["minute"], condition=models.Q(is_summed=False), name="minutes_to_sum_up"),
        ]

    def __str__(self) -> str:
        return f"{self.lane} {self.minute:%H:%M}"


class ModelTraffic(models.Model):
    """What the minutes of a model's lanes came to, those included that are no longer kept; but not yet the last ones,
    which are not `is_summed`."""

    model = models.OneToOneField(ServedModel, models.CASCADE, primary_key=True, related_name="traffic")
    completed = models.PositiveBigIntegerField(default=0)
    failed = models.PositiveBigIntegerField(default=0)
    input_tokens = models.PositiveBigIntegerField(default=0)
    output_tokens = models.PositiveBigIntegerField(default=0)
    answers = models.PositiveBigIntegerField(default=0)
    throttled = models.PositiveBigIntegerField(default=0)
    faults = models.PositiveBigIntegerField(default=0)
    checkpoints = models.PositiveBigIntegerField(default=0)
    waited_ms = models.PositiveBigIntegerField(default=0)
    latency: "models.JSONField[Any, Any]" = models.JSONField(default=list)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return str(self.model)


class Operation(models.Model):
    """What an operator does to many batches, or in many steps: resolved first, then confirmed, then carried out by a
    worker from `position` on, until it is done or somebody aborts it (operations.py)."""

    class Kind(models.TextChoices):
        CANCEL = "cancel"
        RETRY = "retry"

    class State(models.TextChoices):
        DRAFT = "draft"  # resolved, and shown for confirmation
        RUNNING = "running"
        DONE = "done"
        ABORTED = "aborted"
        FAILED = "failed"

    kind = models.CharField(max_length=8, choices=Kind)
    state = models.CharField(max_length=8, choices=State, default=State.DRAFT)
    created_by = models.CharField(max_length=150, help_text="Who drafted it; once it is started, who started it.")
    address = models.CharField(max_length=64, blank=True, help_text="Theirs.")
    created_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    lease_expires_at = models.DateTimeField(null=True, help_text="Until then somebody carries it out.")
    reason = models.CharField(max_length=500, blank=True)
    query = models.CharField(max_length=QUERY_LENGTH, blank=True, help_text="The filters that it was resolved from.")
    targets: "models.JSONField[Any, Any]" = models.JSONField(default=list, help_text="Primary keys of batches.")
    total = models.PositiveIntegerField(default=0, help_text="Targets; of a retry, lines.")
    left_out = models.PositiveIntegerField(default=0, help_text="Chosen too, but too late to be changed.")
    position = models.PositiveIntegerField(default=0, help_text="How many of them were dealt with.")
    changed = models.PositiveIntegerField(default=0)
    attempts = models.PositiveSmallIntegerField(default=0, help_text="At the step that comes next.")
    problems: "models.JSONField[Any, Any]" = models.JSONField(default=list, help_text="The first 100: [batch id, why].")
    # Of a retry
    error_code = models.CharField(max_length=100, blank=True, help_text="Empty: all failed lines.")
    result = models.ForeignKey(Batch, models.SET_NULL, null=True, related_name="+")

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(condition=models.Q(position__lte=models.F("total")), name="operation_within_targets")
        ]
        indexes = [models.Index(fields=["state"], name="operations_by_state")]

    def __str__(self) -> str:
        return f"{self.kind} {self.pk}"


class ReconcileRun(models.Model):
    """A run of the reconciler, and what it healed: {step: how many}."""

    started_at = models.DateTimeField(default=timezone.now, db_index=True)
    seconds = models.FloatField(default=0)
    healed: "models.JSONField[Any, Any]" = models.JSONField(default=dict)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.started_at:%Y-%m-%d %H:%M:%S} {self.healed}"


class SavedView(models.Model):
    """A list of batches that an operator comes back to, by its filters."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="saved_views")
    name = models.CharField(max_length=60)
    query = models.CharField(max_length=QUERY_LENGTH)

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["user", "name"], name="one_saved_view_per_name")]

    def __str__(self) -> str:
        return self.name
