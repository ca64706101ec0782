"""Who did what, when, from where, to what, and why. Called in the transaction of the write that it tells of."""

import getpass
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db.models import Model
from django.http import HttpRequest
from django.utils.text import capfirst

from billing_app import api_keys
from billing_app.models import AuditEntry
from billing_app.pricing import Rates, plain
from config import client_address

Changes = Mapping[str, Sequence[object]]  # each field's value before and after

HIDDEN = "(hidden)"
_SECRET_FIELDS = frozenset({"password", "key_hash"})
_SECRET = re.compile(r"sk-[\w-]{20,}")  # a key that somebody pasted where it does not belong


def record(
    *,
    actor: str,
    action: str,
    target: Model | str,
    account: str = "",
    changes: Changes | None = None,
    reason: str = "",
    address: str = "",
) -> None:
    AuditEntry.objects.create(
        actor=actor[:150],
        action=action,
        target=_redacted(target if isinstance(target, str) else named(target))[:200],
        account=account[:100],
        changes={name: _values(name, values) for name, values in (changes or {}).items()},
        reason=_redacted(reason)[:500],
        address=address[:64],
    )


def by(request: HttpRequest) -> dict[str, str]:
    """The actor and the address of `record`, for what is done in the browser."""
    return {"actor": request.user.get_username(), "address": client_address.of(request)}


def record_export(request: HttpRequest, what: str) -> None:
    """Of a list that leaves the console as a file."""
    address = request.get_full_path()
    record(**by(request), action="list.exported", target=what, changes={"address": (None, address[:500])})


def from_shell(command: str) -> str:
    """The actor of `record`, for what a command does."""
    try:
        return f"{getpass.getuser()} (manage.py {command})"
    except (KeyError, OSError):  # a container whose user has no name
        return f"manage.py {command}"


def named(row: Model) -> str:
    return f"{capfirst(str(row._meta.verbose_name))} {row.pk}: {row}"


def _values(name: str, values: Sequence[object]) -> list[Any]:
    return [HIDDEN if name in _SECRET_FIELDS else _as_json(value) for value in values]


def _as_json(value: object) -> Any:
    match value:
        case None | bool() | int():
            return value
        case Decimal():
            return plain(value)
        case Rates():
            return _words(value)
        case datetime():
            return value.isoformat(timespec="seconds")
        case list() | tuple():
            return [_as_json(item) for item in value]
        case _:
            return _redacted(str(value))


def _words(rates: Rates) -> str:
    cached = f"{plain(rates.cached_input)} cached, " if rates.cached_input is not None else ""
    amounts = f"{plain(rates.input)} input, {cached}{plain(rates.output)} output {rates.currency}"
    return f"{amounts}, times {plain(rates.batch_discount)}"


def _redacted(text: str) -> str:
    return _SECRET.sub(lambda found: api_keys.hint(found[0]), text)
