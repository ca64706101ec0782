"""Who may open and send what: every route of the admin, for every role."""

from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, Permission, User
from django.test import Client
from django.urls import NoReverseMatch, reverse
from django.utils import timezone

from batches_app.roles import APPS, ROLES
from billing_app import ledger
from billing_app.models import AuditEntry, Balance, Hold, LedgerEntry, Price
from tests.factories import PriceFactory, ServedModelFactory
from tests.operators import signed_in
from tests.tenants import Tenant

pytestmark = pytest.mark.django_db

ALL = frozenset(ROLES)
ADMINISTRATOR = frozenset({"administrator"})
OPERATOR = frozenset({"operator", "administrator"})
BILLING = frozenset({"billing", "administrator"})
NOBODY: frozenset[str] = frozenset()

LISTS = {
    "billing_app": ["account", "apikey", "price", "ledgerentry", "hold"],
    "batches_app": ["servedmodel"],
}
ADDING = {
    "billing_app_account": ADMINISTRATOR,
    "billing_app_apikey": ADMINISTRATOR,
    "billing_app_price": BILLING,
    "batches_app_servedmodel": ADMINISTRATOR,
}
PEOPLE = ["auth_user", "auth_group"]
TABLES = [f"{app}_{table}" for app, tables in LISTS.items() for table in tables]

# Who gets more than a refusal from a GET.
MAY: dict[str, frozenset[str]] = {
    **{f"{table}_{page}": ALL for table in TABLES for page in ("changelist", "change", "history")},
    **{f"{table}_add": ADDING.get(table, NOBODY) for table in TABLES},
    **{f"{table}_delete": NOBODY for table in TABLES},
    **{f"{t}_{p}": ADMINISTRATOR for t in PEOPLE for p in ("changelist", "change", "history", "add", "delete")},
    "auth_user_password_change": ADMINISTRATOR,
    "billing_app_account_credit": BILLING,
    "billing_app_account_adjust": BILLING,
    "billing_app_apikey_revoke": ADMINISTRATOR,
    "autocomplete": ALL,  # of accounts, which all may see
    "jsi18n": ALL,
    "index": ALL,
    "app_list": ALL,
    "password_change": ALL,
    "password_change_done": ALL,
}
# Not pages of the admin: for anybody, or a redirect.
OTHERS = {"login", "logout", "view_on_site", None}


def routes() -> list[str]:
    def names(patterns: Any) -> set[str | None]:
        found: set[str | None] = set()
        for pattern in patterns:
            nested = getattr(pattern, "url_patterns", None)
            found |= names(nested) if nested is not None else {pattern.name}
        return found

    return sorted(name for name in names(admin.site.urls[0]) if name not in OTHERS and name is not None)


@pytest.fixture
def rows() -> dict[str, int]:
    tenant = Tenant("acme")
    model = ServedModelFactory(name="m")
    price: Price = PriceFactory(model_name="m")
    now = timezone.now()
    ledger.top_up(tenant.account.pk, price.input_price, key="1", reason="r", made_by="x", now=now)
    hold = Hold.objects.create(batch_id="b", account=tenant.account, placed=1, left=1)
    return {
        "billing_app_account": tenant.account.pk,
        "billing_app_apikey": tenant.api_key.pk,
        "billing_app_price": price.pk,
        "billing_app_ledgerentry": LedgerEntry.objects.get().pk,
        "billing_app_hold": hold.pk,
        "batches_app_servedmodel": model.pk,
        "auth_user": User.objects.create_user("bo").pk,
        "auth_group": Group.objects.create(name="g").pk,
    }


def address(route: str, rows: dict[str, int]) -> str:
    if route == "autocomplete":
        return "/admin/autocomplete/?app_label=billing_app&model_name=apikey&field_name=account"
    if route == "app_list":
        return "/admin/billing_app/"
    table = next((table for table in rows if route.startswith(f"{table}_")), "")
    try:
        return reverse(f"admin:{route}")
    except NoReverseMatch:
        return reverse(f"admin:{route}", args=[rows[table]])


def test_every_route_of_the_admin_is_listed_here() -> None:
    assert routes() == sorted(MAY)


@pytest.mark.parametrize("role", ROLES)
def test_each_role_opens_what_it_may_and_nothing_else(role: str, rows: dict[str, int]) -> None:
    client = signed_in(role)
    answers = {route: client.get(address(route, rows)).status_code for route in routes()}
    assert {route for route, status in answers.items() if status != 403} == {r for r, who in MAY.items() if role in who}
    assert {status for route, status in answers.items() if role in MAY[route]} == {200}


@pytest.mark.parametrize("role", ROLES)
def test_each_role_sends_what_it_may_and_nothing_else(role: str, rows: dict[str, int]) -> None:
    """A form with nothing in it: who may send it is told what is missing, others are refused."""
    client = signed_in(role)
    sending = {
        "billing_app_account_change": ADMINISTRATOR,
        "billing_app_apikey_change": ADMINISTRATOR,
        "batches_app_servedmodel_change": OPERATOR,
        "auth_user_change": ADMINISTRATOR,
        "auth_group_change": ADMINISTRATOR,
    }
    for route in routes():
        writes = route.rpartition("_")[2] in (
            "add",
            "change",
            "credit",
            "adjust",
            "revoke",
            "password_change",
        )
        if not writes or route in ("password_change", "auth_user_password_change"):
            continue
        may = sending.get(route, NOBODY if route.endswith("_change") else MAY[route])
        refused = client.post(address(route, rows), {}).status_code == 403
        assert refused == (role not in may), route


def test_a_stranger_is_sent_to_the_login_and_a_tenant_s_user_is_refused(rows: dict[str, int]) -> None:
    nobody, user = Client(), Client()
    user.force_login(User.objects.create_user("not staff"))
    for route in routes():
        for client in (nobody, user):
            answer = client.get(address(route, rows))
            refused = answer.status_code == 302 and answer["Location"].startswith("/admin/login/")
            assert refused or (route, answer.status_code) == ("jsi18n", 200), route


def test_the_roles_are_there_after_migrate() -> None:
    assert set(Group.objects.values_list("name", flat=True)) == set(ROLES)


def test_a_viewer_may_look_at_all_that_is_ours_and_at_nothing_else() -> None:
    """A table that comes later needs a migration that calls roles.create_groups again."""
    looking = Permission.objects.filter(content_type__app_label__in=APPS, codename__startswith="view_")
    viewer = Group.objects.get(name="viewer").permissions.all()
    assert set(viewer) == set(looking)
    assert set(Group.objects.get(name="administrator").permissions.filter(content_type__app_label__in=APPS)) == set(
        Permission.objects.filter(content_type__app_label__in=APPS)
    )


def test_a_viewer_s_action_does_nothing(rows: dict[str, int]) -> None:
    """Neither revokes nor disables, whichever way it is sent."""
    client = signed_in("viewer")
    for table, action in (
        ("billing_app_apikey", "revoke"),
        ("batches_app_servedmodel", "disable"),
    ):
        path = reverse(f"admin:{table}_changelist")
        client.post(path, {"action": action, "_selected_action": [rows[table]]})
    assert AuditEntry.objects.count() == 0
    assert Balance.objects.get().is_prepaid is False
