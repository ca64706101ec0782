from typing import Any

from django.db import models
from django.db.models import Q
from django.utils import timezone

from batches_app.models.batch import Batch
from batches_app.models.routing import Lane, ServedModel
from billing_app.models import Account

SUSPICIOUS = 2  # losses, from which on a shard is run alone (poison.py)


class Shard(models.Model):
    """A contiguous range of an input file's lines, known by byte offset. Model, account and deadline are the
    batch's, repeated here so that a claim reads one index."""

    class State(models.TextChoices):
        WAITING = "waiting"
        RUNNING = "running"
        DONE = "done"  # every line has its result
        CLOSED = "closed"  # the batch was stopped first

    batch = models.ForeignKey(Batch, models.CASCADE, related_name="shards")
    model = models.ForeignKey(ServedModel, models.PROTECT, related_name="+")
    account = models.ForeignKey(Account, models.PROTECT, related_name="+")
    deadline = models.DateTimeField()
    first_line = models.PositiveIntegerField()
    last_line = models.PositiveIntegerField()
    requests = models.PositiveIntegerField()
    offset = models.PositiveBigIntegerField()
    size = models.PositiveIntegerField()
    state = models.CharField(max_length=8, choices=State, default=State.WAITING)
    lane = models.ForeignKey(Lane, models.SET_NULL, null=True, related_name="shards")
    lane_token = models.PositiveBigIntegerField(default=0)
    claims = models.PositiveIntegerField(default=0)
    # What of it may take a process down (poison.py)
    losses = models.PositiveSmallIntegerField(default=0, help_text="Holders that died with it in hand.")
    suspect_line = models.PositiveIntegerField(null=True, help_text="In flight now, and nothing else is.")
    crashes: "models.JSONField[Any, Any]" = models.JSONField(
        default=dict, help_text="Line: how often a holder died while it was in flight alone."
    )

    class Meta:
        ordering = ["batch", "first_line"]
        constraints = [models.UniqueConstraint(fields=["batch", "first_line"], name="one_shard_per_line_range")]
        indexes = [
            models.Index(
                fields=["model", "account", "deadline", "id"], condition=Q(state="waiting"), name="shards_to_claim"
            ),
            models.Index(fields=["lane", "lane_token"], condition=Q(state="running"), name="shards_of_lane"),
            models.Index(
                fields=["model"], condition=Q(state="waiting", losses__gte=SUSPICIOUS), name="shards_under_suspicion"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.batch} lines {self.first_line}-{self.last_line}"


class Checkpoint(models.Model):
    """Results of some lines of a batch: one immutable blob of result lines, one after another in the order of
    `index` (see `results.pack_index`). Which lines are done is what the checkpoints say, and nothing else."""

    batch = models.ForeignKey(Batch, models.CASCADE, related_name="checkpoints")
    blob = models.CharField(max_length=200, unique=True)
    index = models.BinaryField()
    first_line = models.PositiveIntegerField()
    last_line = models.PositiveIntegerField()
    lane = models.ForeignKey(Lane, models.SET_NULL, null=True, related_name="+")
    lane_token = models.PositiveBigIntegerField()
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.batch} checkpoint {self.pk}"
