"""Every route of the service is behind a door that somebody watches, and each door opens for its own kind of guest."""

import re
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.test import Client

from billing_app.models import Balance
from tests import books, routes, rows
from tests.console import test_access as operators
from tests.factories import PriceFactory, ServedModelFactory
from tests.operators import allowed, signed_in
from tests.strangers.calls import CALLS, OPEN
from tests.tenants import Tenant

pytestmark = pytest.mark.django_db

WATCHERS = frozenset({"metrics"})
ADMIN = [route for route in routes.every() if route.path.startswith("admin/")]
# What any operator may do in the admin, with no right at all: see that there is nothing, and see to the own password.
OF_EVERY_OPERATOR = {"index", "logout", "password_change", "password_change_done", "jsi18n"}
LEADS_ON = {"login"}
OF_THE_DOOR_ITSELF = {"/console/login", "/console/logout", "/console/preferences", "/admin/logout/"}


def door(route: routes.Route) -> str:
    if route.path in OPEN:
        return "open"
    if route.path in CALLS:
        return "a tenant's key"
    if route.path in WATCHERS:
        return "an address"
    if route.path.startswith(("console/", "admin/")):
        return "an operator's session"
    return "none"


def test_every_route_has_a_door() -> None:
    """A route that is added is one of these, or is written down as open to everybody."""
    assert [route.path for route in routes.every() if door(route) == "none"] == []


def test_the_operators_matrix_has_all_of_the_console() -> None:
    named = {f"console:{route.name}" for route in routes.console()} | {
        f"django_rq:{name}" for name in operators.RQ_RULES
    }
    below = [route for route in routes.every() if route.path.startswith("console/")]
    assert named == set(operators.TABLE)
    assert len(below) == len(named)


def test_nothing_is_open_that_is_gone() -> None:
    assert {route.path for route in routes.every()} >= OPEN | WATCHERS | set(CALLS)


@pytest.mark.parametrize("path", sorted(WATCHERS))
def test_what_is_for_some_addresses_is_for_no_other_whatever_it_says_of_itself(path: str) -> None:
    tenant, operator = Tenant("acme"), signed_in()
    for client in (Client(headers=bearer(tenant)), operator, Client()):
        for headers in ({}, {"X-Forwarded-For": "127.0.0.1"}, {"X-Real-IP": "127.0.0.1", "Host": "localhost"}):
            answer = client.get(f"/{path}", headers=headers, REMOTE_ADDR="203.0.113.9")
            assert answer.status_code == 403
            assert "acme" not in answer.content.decode()


# A tenant's key opens nothing of the operators'


def places() -> list[str]:
    """An address of every route of the operators. What there is at it does not matter: nobody is let in so far."""
    behind = [route for route in routes.every() if door(route) == "an operator's session"]
    return [_address(route) for route in behind]


def _address(route: routes.Route) -> str:
    path = re.sub(r"<int:\w+>", "1", route.path)
    path = re.sub(r"<(?:\w+:)?\w+>", "x", path)
    return "/" + path.replace("^(?P<app_label>billing_app|auth|batches_app)/$", "auth/").replace("(?P<url>.*)$", "x")


@pytest.mark.parametrize("method", ["get", "post"])
def test_a_tenant_s_key_is_no_operator(method: str) -> None:
    """Each answers as it does to nobody: to the sign-in."""
    tenant = Tenant("acme")
    before = rows.snapshot()
    for address in places():
        if address in OF_THE_DOOR_ITSELF:
            continue
        answers = [getattr(Client(headers=headers), method)(address) for headers in ({}, bearer(tenant))]
        statuses = {answer.status_code for answer in answers}
        assert statuses <= {302, 405}, address
        assert len(statuses) == 1, address
        for answer in answers:
            if answer.status_code == 302:
                assert re.match(r"/(console|admin)/login", answer["Location"]), (address, answer["Location"])
    assert rows.snapshot() == before


def bearer(tenant: Tenant) -> dict[str, str]:
    return {"Authorization": f"Bearer {tenant.key}"}


# The admin, for staff without rights


@pytest.fixture
def there(db: None) -> dict[str, Any]:
    """One of each model of the admin, by its place in the addresses."""
    account = Tenant("acme").account
    price = PriceFactory(model_name="m")
    books.use(account, price)
    books.top_up(account, "10")
    Balance.objects.filter(account=account).update(is_prepaid=True)
    books.hold(account, "batch_1", "1")
    ServedModelFactory(name="m")
    User.objects.create_superuser("root")
    return {
        f"admin/{model._meta.app_label}/{model._meta.model_name}/": model._default_manager.order_by("pk").first()
        for model in admin.site._registry
    }


def place(route: routes.Route, there: dict[str, Any]) -> str:
    of = next((one for prefix, one in there.items() if route.path.startswith(prefix)), None)
    if of is None:
        return _address(route)
    return "/" + re.sub(r"<(?:\w+:)?\w+>", str(of.pk), route.path)


@pytest.mark.parametrize("method", ["get", "post"])
def test_staff_without_rights_gets_nothing_of_the_admin(method: str, there: dict[str, Any]) -> None:
    client = allowed(name="nobody in particular")
    before = rows.snapshot()
    found = {}
    for route in ADMIN:
        name = route.entry.name
        if name not in OF_EVERY_OPERATOR | LEADS_ON and not (name is None and "object_id" in route.path):
            found[route.path] = getattr(client, method)(place(route, there)).status_code
    let_in = {path for path, status in found.items() if status not in (403, 404, 405)}
    assert let_in == set()
    assert {path for path, status in found.items() if status == 404} == {
        "admin/r/<path:content_type_id>/<path:object_id>/",
        "admin/^(?P<app_label>billing_app|auth|batches_app)/$",
        "admin/(?P<url>.*)$",
    }
    assert rows.snapshot() == before


def test_what_every_operator_may_open_shows_nothing_of_anybody(there: dict[str, Any]) -> None:
    client = allowed(name="nobody in particular")
    for name in OF_EVERY_OPERATOR - {"logout"}:
        route = next(one for one in ADMIN if one.entry.name == name)
        assert "acme" not in client.get(_address(route)).content.decode()


def test_an_address_in_the_admin_without_its_page_leads_to_that_and_no_further(there: dict[str, Any]) -> None:
    """…/account/1/ to …/account/1/change/, which then refuses."""
    client = allowed(name="nobody in particular")
    for route in ADMIN:
        if route.entry.name is None and "object_id" in route.path:
            answer = client.get(place(route, there), follow=True)
            assert answer.status_code == 403, route.path


@pytest.mark.parametrize("method", ["get", "post"])
def test_who_is_signed_in_but_no_staff_is_shown_the_door(method: str, there: dict[str, Any]) -> None:
    client = signed_in("viewer", name="was staff")
    User.objects.filter(username="was staff").update(is_staff=False)
    before = rows.snapshot()
    for route in ADMIN:
        answer = getattr(client, method)(place(route, there))
        assert answer.status_code == 302, route.path
        if route.entry.name != "logout":
            assert re.match(r"/(console|admin)/login", answer["Location"]), route.path
    assert rows.snapshot(besides=("sessions.Session",)) == {
        label: kept for label, kept in before.items() if label != "sessions.Session"
    }


def test_who_is_deactivated_is_out_at_once(there: dict[str, Any]) -> None:
    client = signed_in()
    assert client.get("/console/").status_code == 200
    User.objects.filter(username="olga").update(is_active=False)
    for address in places():
        if address not in OF_THE_DOOR_ITSELF:
            assert client.get(address).status_code in (302, 405), address


def test_every_model_of_the_admin_is_tried(there: dict[str, Any]) -> None:
    assert all(there.values()), [place for place, one in there.items() if one is None]
