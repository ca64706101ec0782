from django.db import models
from django.utils import timezone

# What an upstream can serve; the test model, which is built in, has one of its own.
UPSTREAM_ENDPOINTS = ("/v1/chat/completions", "/v1/embeddings", "/v1/completions", "/v1/responses")
TEST_ENDPOINT = "/v1/chat/ds-test"


class ServedModel(models.Model):
    """A public model name and the upstream that serves it."""

    BUILTIN = "builtin"  # as upstream_url: the test model, which answers in the process

    name = models.CharField(max_length=200, unique=True)
    endpoints = models.JSONField(default=list, help_text='Such as ["/v1/chat/completions"].')
    upstream_url = models.CharField(max_length=500, help_text="Base URL, such as http://vllm:8000/v1.")
    upstream_model = models.CharField(max_length=200, blank=True, help_text="Its name there, if another.")
    upstream_key_env = models.CharField(
        max_length=100, blank=True, help_text="Name of the environment variable that holds the upstream's key."
    )
    max_concurrency = models.PositiveIntegerField(default=32, help_text="Requests in flight, over all machines.")
    context_tokens = models.PositiveIntegerField(null=True, blank=True)
    max_output_tokens = models.PositiveIntegerField(
        null=True, blank=True, help_text="Of an answer whose request sets no max_tokens; for holds and estimates."
    )
    is_enabled = models.BooleanField(default=True, help_text="Takes new batches. Off: running ones go on.")
    paused_at = models.DateTimeField(null=True, editable=False, help_text="From then on nothing is sent to it.")
    paused_by = models.CharField(max_length=150, blank=True, default="", db_default="", editable=False)
    paused_reason = models.CharField(max_length=500, blank=True, default="", db_default="", editable=False)
    created_at = models.DateTimeField(default=timezone.now)
    # What the last probe found that an operator asked for
    probe_asked_at = models.DateTimeField(null=True, editable=False)
    probed_at = models.DateTimeField(null=True, editable=False)
    probe_succeeded = models.BooleanField(null=True, editable=False)
    probe_note = models.CharField(max_length=500, blank=True, editable=False)
    probe_ms = models.PositiveIntegerField(null=True, editable=False)

    class Meta:
        ordering = ["name"]
        # Apart from changing a model: whoever sets both address and key variable can have any secret of the
        # workers' environment sent to an address of their own.
        permissions = [
            ("set_upstream", "Can set upstreams of models"),
            ("pause_servedmodel", "Can pause, resume and probe models"),
        ]
        constraints = [
            models.CheckConstraint(condition=models.Q(max_concurrency__gte=1), name="max_concurrency_at_least_1"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_builtin(self) -> bool:
        return self.upstream_url == self.BUILTIN

    @property
    def pause_note(self) -> str:
        return " · ".join(filter(None, [self.paused_by, self.paused_reason]))


class Lane(models.Model):
    """A permit to have up to `permits` requests in flight to one model; the sum over its lanes is the model's
    `max_concurrency`. Whoever holds the lease (unexpired, with the current token) may use it."""

    model = models.ForeignKey(ServedModel, models.CASCADE, related_name="lanes")
    number = models.PositiveIntegerField()
    permits = models.PositiveIntegerField()
    token = models.PositiveBigIntegerField(default=0, help_text="Fencing number: grows with each claim.")
    owner = models.CharField(max_length=200, blank=True)
    lease_expires_at = models.DateTimeField(null=True, db_index=True)
    # What the holder last said of itself, for operators.
    limit = models.PositiveIntegerField(default=0)
    in_flight = models.PositiveIntegerField(default=0)
    paused_since = models.DateTimeField(null=True)
    pause_reason = models.CharField(max_length=500, blank=True)

    class Meta:
        ordering = ["model", "number"]
        constraints = [models.UniqueConstraint(fields=["model", "number"], name="one_lane_per_number")]

    def __str__(self) -> str:
        return f"{self.model} lane {self.number}"
