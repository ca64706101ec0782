import json
import secrets
from pathlib import Path
from typing import Any

from django.contrib.auth.models import Group, User
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from batches_app.roles import ROLES
from billing_app import audit

SUPERUSER = "administrator"  # the one who can also make others superusers


class Command(BaseCommand):
    help = "Creates an operator, who signs in to the console. An operator who exists is left as it is."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name")
        parser.add_argument(
            "--role", choices=ROLES, default=SUPERUSER, help=f"what it may do (default: {SUPERUSER}, everything)"
        )
        parser.add_argument("--password-file", type=Path, help="else a password is made and printed once")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        name, role = options["name"], options["role"]
        report: dict[str, Any] = {"name": name, "created": False}
        if not User.objects.filter(username=name).exists():
            file = options["password_file"]
            password = _password_from(file) if file else secrets.token_urlsafe(12)
            _check_name(name)
            _check_password(password, name)
            _create(name, password, role)
            report |= {"created": True} | ({} if file else {"password": password})
        self.stdout.write(json.dumps(report) if options["json"] else _sentence(report))


@transaction.atomic
def _create(name: str, password: str, role: str) -> None:
    user = User.objects.create_user(name, password=password, is_staff=True, is_superuser=role == SUPERUSER)
    user.groups.add(Group.objects.get(name=role))
    who = audit.from_shell("create_operator")
    audit.record(actor=who, action="operator.created", target=user, changes={"role": (None, role)})


def _password_from(file: Path) -> str:
    try:
        password = file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"--password-file cannot be read: {error}") from None
    if not password:
        raise CommandError(f"--password-file {file} is empty.")
    return password


def _check_name(name: str) -> None:
    try:
        User._meta.get_field("username").clean(name, None)
    except ValidationError as error:
        raise CommandError(f"The operator's name cannot be {name!r}: {error.messages[0]}") from None


def _check_password(password: str, name: str) -> None:
    try:
        validate_password(password, User(username=name))
    except ValidationError as error:
        raise CommandError(f"The password will not do. {' '.join(error.messages)}") from None


def _sentence(report: dict[str, Any]) -> str:
    if not report["created"]:
        return f"Operator '{report['name']}' exists already; nothing was changed."
    password = f" Password, shown once: {report['password']}" if "password" in report else ""
    return f"Created the operator '{report['name']}'.{password}"
