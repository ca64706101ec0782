"""What is wrong with the prices and upstreams of an installation, said when it is started or migrated."""

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning
from django.db import connections
from django.utils import timezone

from batches_app import routing
from batches_app.models import ServedModel
from billing_app.models import LedgerEntry, Price

HINT = "Add one: manage.py set_model, or Prices in the admin. Until then its batches fail."
UPSTREAM_HINT = "Correct its URL, or UPSTREAM_ADDRESSES. Until then its batches wait."


def check_prices(*, databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """Only with a database at hand (`check --database default`, `migrate`), and only once it has our tables."""
    if "default" not in (databases or ()) or not _has_tables():
        return []
    # Named columns: before a migration the table may lack the others.
    names = list(ServedModel.objects.filter(is_enabled=True).values_list("name", flat=True))
    now = timezone.now()
    in_force = Price.objects.filter(model_name__in=names, currency=settings.CURRENCY, effective_from__lte=now)
    priced, elsewhere = set(in_force.values_list("model_name", flat=True)), _other_currencies(names)
    warnings = [_warning(name, elsewhere.get(name)) for name in names if name not in priced]
    return [*_mixed_currencies(), *warnings]


def check_upstreams(*, databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """As `check_prices`."""
    if "default" not in (databases or ()) or not _has_tables():
        return []
    urls = ServedModel.objects.exclude(upstream_url=ServedModel.BUILTIN).values_list("name", "upstream_url")
    faults = ((name, _fault(url)) for name, url in urls)
    return [
        Warning(f"The upstream of the model '{name}' cannot be used. {fault}", hint=UPSTREAM_HINT, id="batchdesk.W003")
        for name, fault in faults
        if fault
    ]


def _fault(url: str) -> str | None:
    if not routing.is_base_url(url):
        return "Its URL must look like http://HOST:PORT/v1, without a password in it."
    return routing.objection_to(url)


def _mixed_currencies() -> list[CheckMessage]:
    """Entries carry no currency of their own: they are in the installation's."""
    others = Price.objects.exclude(currency=settings.CURRENCY)
    foreign = dict(others.values_list("pk", "currency"))
    if not foreign or not LedgerEntry.objects.filter(price__in=list(foreign)).exclude(amount=0).exists():
        return []
    told = f"CURRENCY is {settings.CURRENCY}, but the ledger has charges in {', '.join(sorted(set(foreign.values())))}."
    return [Error(told, hint="Set CURRENCY back: amounts of two currencies cannot be added up.", id="batchdesk.E001")]


def _has_tables() -> bool:
    needed = {table._meta.db_table for table in (ServedModel, Price, LedgerEntry)}
    return needed <= set(connections["default"].introspection.table_names())


def _other_currencies(names: Sequence[str]) -> dict[str, str]:
    versions = Price.objects.filter(model_name__in=names, effective_from__lte=timezone.now())
    return dict(versions.exclude(currency=settings.CURRENCY).values_list("model_name", "currency"))


def _warning(name: str, currency: str | None) -> Warning:
    if currency:
        told = f"The price of the model '{name}' is in {currency}, but CURRENCY is {settings.CURRENCY}."
        return Warning(told, hint=HINT, id="batchdesk.W002")
    return Warning(f"The model '{name}' is enabled and has no price in force.", hint=HINT, id="batchdesk.W001")
