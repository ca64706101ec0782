"""All that is in the database, to see that something changed nothing."""

from typing import Any

from django.apps import apps

WRITTEN_BY_LOOKING = ("billing_app.AuditEntry", "sessions.Session")


def snapshot(*, besides: tuple[str, ...] = ()) -> dict[str, list[dict[str, Any]]]:
    return {
        model._meta.label: list(model._default_manager.order_by("pk").values())
        for model in apps.get_models()
        if model._meta.managed and model._meta.label not in besides
    }
