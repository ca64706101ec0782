import pytest
from axes.models import AccessAttempt
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


@pytest.mark.parametrize("name", ["my secret pass phrase", "sk-" + "a" * 60, "OLGA"])
def test_what_is_nobody_s_name_is_not_written_down(name: str) -> None:
    """It may be a password or a key in the wrong field. Nobody who tries it learns that it is nobody's."""
    signed_in()
    assert fail(name, 9)[-2:] == [429] * 2
    assert entries() == []
    assert AccessAttempt.objects.count() == 1
    assert not AccessAttempt.objects.filter(username__iexact=name).exists()


def test_a_name_that_cannot_be_one_is_no_attempt() -> None:
    assert fail("ol\0ga", 9) == [200] * 9
    assert (entries(), AccessAttempt.objects.count()) == ([], 0)


@pytest.mark.parametrize("spelt", ["olga ", " olga", "\uff4flga"])
def test_however_a_name_is_spelt_its_attempts_are_counted_together(spelt: str) -> None:
    """As Django signs it in: without spaces around it, and in Unicode's form NFKC."""
    signed_in()
    assert fail("olga", 4) + fail(spelt, 4) == [200] * 7 + [429]
    assert [action for _, action, _, _ in entries()] == ["operator.locked_out"]


def test_a_name_that_is_somebody_s_is_for_administrators_to_see() -> None:
    signed_in()
    fail("olga", 1)
    assert AccessAttempt.objects.get().username == "olga"
