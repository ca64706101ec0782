"""Counts that only grow, of what leaves no row behind: all processes add to them, and any may show them."""

from django.db.models import F

from billing_app.models import RunningCount

# What they count, each with a name of its own after the point
ENDED, HEALED, STEP_FAILED = "batches.", "healed.", "step_failed."


def add(name: str, number: int) -> None:
    counts = RunningCount.objects.filter(name=name)
    if not counts.update(count=F("count") + number):
        RunningCount.objects.get_or_create(name=name)  # perhaps another process does so too
        counts.update(count=F("count") + number)


def all_named() -> dict[str, int]:
    return dict(RunningCount.objects.values_list("name", "count"))
