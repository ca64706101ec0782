from collections.abc import Sequence
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from batches_app.checks import check_prices, check_upstreams
from tests.books import use
from tests.factories import AccountFactory, PriceFactory, ServedModelFactory

pytestmark = pytest.mark.django_db


def ids(databases: Sequence[str] | None = ("default",)) -> list[str | None]:
    return [message.id for message in check_prices(databases=databases)]


def test_a_fresh_database_has_nothing_to_warn_of() -> None:
    assert ids() == []


def test_an_enabled_model_without_a_price_in_force_is_told() -> None:
    ServedModelFactory(name="m")
    ServedModelFactory(name="paused", is_enabled=False)
    PriceFactory(model_name="m", effective_from=timezone.now() + timedelta(days=1))
    [warning] = check_prices(databases=["default"])
    assert (warning.id, "'m' is enabled and has no price" in warning.msg) == ("batchdesk.W001", True)
    PriceFactory(model_name="m")
    assert ids() == []


def test_a_price_in_another_currency_is_told() -> None:
    ServedModelFactory(name="m")
    PriceFactory(model_name="m", currency="EUR")
    [warning] = check_prices(databases=["default"])
    assert (warning.id, "is in EUR, but CURRENCY is USD" in warning.msg) == ("batchdesk.W002", True)


def test_another_currency_of_the_installation_is_told(settings: Any) -> None:
    settings.CURRENCY = "EUR"
    ServedModelFactory(name="m")
    PriceFactory(model_name="m")
    assert "batchdesk.W002" in ids()


def test_without_a_database_at_hand_nothing_is_asked() -> None:
    ServedModelFactory(name="m")
    assert ids(None) == []


def test_before_the_first_migrate_there_are_no_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection.introspection, "table_names", list)
    ServedModelFactory(name="m")
    assert ids() == []


def test_manage_py_check_tells_it() -> None:
    ServedModelFactory(name="m")
    err = StringIO()
    call_command("check", "--database", "default", stdout=StringIO(), stderr=err)
    assert "batchdesk.W001" in err.getvalue()


def test_a_ledger_in_another_currency_is_an_error() -> None:
    """Amounts of two currencies cannot be added up."""
    price = PriceFactory(model_name="m", currency="EUR")
    assert ids() == []
    use(AccountFactory(), price)
    assert ids() == ["batchdesk.E001"]


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://169.254.169.254/v1", "is never an upstream's"),
        ("http://10.0.0.1/v1", "is private, and UPSTREAM_ADDRESSES allows only public"),
        ("http://user:password@vllm/v1", "without a password in it"),
        ("http://[oops", "must look like"),
    ],
)
def test_an_upstream_that_cannot_be_used_is_told_without_its_password(settings: Any, url: str, told: str) -> None:
    settings.UPSTREAM_ADDRESSES = ["public"]
    ServedModelFactory(name="m", upstream_url=url)
    ServedModelFactory(name="fine", upstream_url="https://api.example.com/v1")
    [warning] = check_upstreams(databases=["default"])
    assert warning.id == "batchdesk.W003"
    assert "'m' cannot be used" in warning.msg
    assert told in warning.msg
    assert "user:" not in warning.msg
    assert check_upstreams() == []
