import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command

from billing_app.models import AuditEntry

pytestmark = pytest.mark.django_db


def create(*arguments: str) -> dict[str, Any]:
    out = StringIO()
    call_command("create_operator", *arguments, "--json", stdout=out)
    return dict(json.loads(out.getvalue()))


def test_a_new_operator_gets_a_password_that_works() -> None:
    made = create("ann")
    operator = User.objects.get(username="ann")
    assert operator.check_password(made["password"])
    assert operator.is_staff


def test_an_operator_who_exists_is_left_alone() -> None:
    password = create("ann")["password"]
    assert create("ann") == {"name": "ann", "created": False}
    assert User.objects.get().check_password(password)


def test_a_password_from_a_file_is_not_printed(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("correct horse battery\n")
    assert create("ann", "--password-file", str(file)) == {"name": "ann", "created": True}
    assert User.objects.get().check_password("correct horse battery")


@pytest.mark.parametrize("content", [None, "", " \n"])
def test_a_file_without_a_password_makes_no_operator(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "password"
    if content is not None:
        file.write_text(content)
    with pytest.raises(CommandError, match="--password-file"):
        create("ann", "--password-file", str(file))
    assert not User.objects.exists()


@pytest.mark.parametrize("password", ["admin", "password", "short", "1234567890", "annabelle", "annabelle1"])
def test_a_password_that_anybody_would_try_makes_no_operator(tmp_path: Path, password: str) -> None:
    file = tmp_path / "password"
    file.write_text(password)
    with pytest.raises(CommandError, match="The password will not do"):
        create("annabelle", "--password-file", str(file))
    assert not User.objects.exists()


@pytest.mark.parametrize("name", ["", "x" * 151, "a b\n"])
def test_an_operator_needs_a_name_that_fits(name: str) -> None:
    with pytest.raises(CommandError, match="name"):
        create(name)


@pytest.mark.parametrize("role", ["viewer", "operator", "billing"])
def test_a_role_is_a_group_and_no_more(role: str) -> None:
    create("ann", "--role", role)
    operator = User.objects.get()
    assert (operator.is_staff, operator.is_superuser) == (True, False)
    assert [group.name for group in operator.groups.all()] == [role]


def test_without_a_role_an_operator_may_do_everything() -> None:
    create("ann")
    assert User.objects.get().is_superuser


def test_a_new_operator_is_audited_without_the_password() -> None:
    made = create("ann", "--role", "billing")
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.changes) == ("operator.created", {"role": [None, "billing"]})
    assert entry.actor.endswith("manage.py create_operator)") or entry.actor == "manage.py create_operator"
    assert made["password"] not in f"{entry.target} {entry.changes} {entry.reason}"
    create("ann", "--role", "viewer")
    assert AuditEntry.objects.count() == 1
