"""What an operator may do, by role. A role is a group; what it holds beyond these can be edited in the admin."""

from typing import Any

from django.contrib.auth.management import create_permissions

APPS = ("billing_app", "files_app", "batches_app")
LOOKING = "view_"
OPERATING = frozenset({"cancel_batch", "retry_batch", "pause_servedmodel", "change_servedmodel"})
BILLING = frozenset({"add_price", "add_credit", "make_adjustment", "download_statement"})
PEOPLE = frozenset(f"{verb}_{row}" for verb in ("view", "add", "change", "delete") for row in ("user", "group"))
ROLES = ("viewer", "operator", "billing", "administrator")


def create_groups(apps: Any, schema_editor: Any) -> None:
    """For a migration, and again for a later one that adds a table: what is there already stays."""
    for label in (*APPS, "auth"):
        _create_permissions(apps, label)
    for role in ROLES:
        group, _ = apps.get_model("auth", "Group").objects.get_or_create(name=role)
        group.permissions.add(*_permissions(apps, role))


def _create_permissions(apps: Any, label: str) -> None:
    """Django makes permissions after all migrations have run; the groups need them before. An app of a migration's
    state has no module of models, which is how create_permissions recognises an app without any."""
    app = apps.get_app_config(label)
    app.models_module = getattr(app, "models_module", None) or True
    create_permissions(app, apps=apps, verbosity=0)


def _permissions(apps: Any, role: str) -> list[Any]:
    known = apps.get_model("auth", "Permission").objects.select_related("content_type")
    ours = list(known.filter(content_type__app_label__in=APPS))
    if role == "administrator":
        return [*ours, *known.filter(content_type__app_label="auth", codename__in=PEOPLE)]
    more = {"operator": OPERATING, "billing": BILLING}.get(role, frozenset())
    return [one for one in ours if one.codename.startswith(LOOKING) or one.codename in more]
