import pytest
from django.contrib.auth.models import User
from django.test import Client

from billing_app.models import AuditEntry
from tests.operators import signed_in

pytestmark = pytest.mark.django_db


def fail(name: str, times: int, address: str = "10.0.0.9") -> list[int]:
    client, given = Client(REMOTE_ADDR=address), {"username": name, "password": "wrong"}
    return [client.post("/console/login", given).status_code for _ in range(times)]


def entries() -> list[tuple[str, str, str, str]]:
    return list(AuditEntry.objects.order_by("pk").values_list("actor", "action", "target", "address"))


def test_a_lockout_is_in_the_audit_log_once_from_each_address() -> None:
    signed_in()
    number = User.objects.get().pk
    assert fail("olga", 7) == [200] * 7
    assert entries() == []
    assert fail("olga", 4) == [429] * 4
    entry = ("not signed in", "operator.locked_out", f"User {number}: olga")
    assert entries() == [(*entry, "10.0.0.9")]
    fail("olga", 9, "10.0.0.10")
    assert entries() == [(*entry, "10.0.0.9"), (*entry, "10.0.0.10")]


@pytest.mark.parametrize("name", ["my secret pass phrase", "ol\0ga", "OLGA"])
def test_what_is_nobody_s_name_is_not_written_down(name: str) -> None:
    """It may be a password in the wrong field."""
    signed_in()
    fail(name, 9)
    assert entries() == []
