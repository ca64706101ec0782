from django.db import models


class RunningCount(models.Model):
    """How often something happened, for ever: of what nothing else in the database has a memory."""

    name = models.CharField(max_length=100, primary_key=True)
    count = models.PositiveBigIntegerField(default=0)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.name}: {self.count}"
