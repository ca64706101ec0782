"""The admin as a whole: every page opens, nothing that the service writes is edited, rights are not a way around."""

from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, User
from django.test import Client

from billing_app.models import AuditEntry, Hold, LedgerEntry
from tests.operators import form_on, signed_in, url
from tests.tenants import Tenant

pytestmark = pytest.mark.django_db
READ_ONLY = [LedgerEntry, Hold]


@pytest.mark.parametrize("model", list(admin.site._registry))
def test_every_list_opens_also_with_a_search(model: Any) -> None:
    tenant, operator = Tenant("acme"), signed_in()
    tenant.has_batch(total=3, completed=1, failed=1)
    tenant.has_file()
    assert operator.get(url(model)).status_code == 200
    if admin.site._registry[model].search_fields:
        assert operator.get(url(model), {"q": "x"}).status_code == 200


@pytest.mark.parametrize("model", list(admin.site._registry))
def test_every_filter_opens(model: Any) -> None:
    """Also with a value that nobody offers."""
    Tenant("acme").has_batch()
    operator = signed_in()
    page = operator.get(url(model))
    for spec in page.context["cl"].filter_specs:
        for choice in spec.choices(page.context["cl"]):
            if "query_string" in choice:
                assert operator.get(url(model) + choice["query_string"]).status_code == 200
        if isinstance(spec, admin.SimpleListFilter):
            for value in ("acme", "x", "%", "2026-11"):
                assert operator.get(url(model), {str(spec.parameter_name): value}).status_code == 200


@pytest.mark.parametrize("model", READ_ONLY)
def test_what_the_service_writes_is_only_looked_at(model: Any) -> None:
    request: Any = signed_in().get("/admin/").wsgi_request
    shown = admin.site._registry[model]
    assert not shown.has_add_permission(request)
    assert not shown.has_change_permission(request)
    assert not shown.has_delete_permission(request)
    assert shown.has_view_permission(request)


def test_details_open_and_never_show_the_hash_of_a_key() -> None:
    tenant, operator = Tenant("acme"), signed_in()
    for row in (tenant.account, tenant.api_key):
        page = operator.get(url(type(row), f"{row.pk}/change/"))
        assert page.status_code == 200
        assert tenant.api_key.key_hash.encode() not in page.content


def test_the_first_page_is_grouped_by_what_one_looks_for() -> None:
    Tenant("acme").has_batch()
    page = signed_in().get("/admin/")
    groups = {group["name"]: [model["object_name"] for model in group["models"]] for group in page.context["app_list"]}
    assert list(groups) == ["Tenants", "Money", "Serving", "People"]
    assert sum(len(models) for models in groups.values()) == len(admin.site._registry)
    assert [tile["label"] for tile in page.context["tiles"]][:2] == ["Spent this month", "Open holds"]


def test_who_has_no_role_sees_nothing() -> None:
    client = Client()
    client.force_login(User.objects.create_user("new", is_staff=True))
    page = client.get("/admin/")
    assert (page.context["tiles"], page.context["app_list"]) == ([], [])


def test_pages_have_no_script_or_style_of_their_own() -> None:
    """A strict Content-Security-Policy would refuse them."""
    tenant, operator = Tenant("acme"), signed_in()
    for path in ("/admin/", url(type(tenant.account)), url(type(tenant.account), f"{tenant.account.pk}/change/")):
        page = operator.get(path).content.decode()
        assert "<script>" not in page
        assert "<style" not in page
        assert " style=" not in page
        assert " onclick=" not in page


# Operators


def test_a_new_operator_is_audited_without_the_password() -> None:
    operator = signed_in()
    form = {"username": "bo", "password1": "a long passphrase", "password2": "a long passphrase"}
    assert operator.post(url(User, "add/"), form | {"usable_password": "true"}).status_code == 302
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.actor, entry.address) == ("operator.created", "olga", "127.0.0.1")
    assert entry.changes["username"] == [None, "bo"]
    assert "passphrase" not in str(entry.changes)


def test_rights_are_audited_from_what_to_what_and_why() -> None:
    operator = signed_in()
    other = User.objects.create_user("bo", is_staff=True)
    groups = {name: str(Group.objects.get(name=name).pk) for name in ("viewer", "billing")}
    page = operator.get(url(User, f"{other.pk}/change/"))
    form = form_on(page, groups=list(groups.values()), why="joined accounting")
    assert operator.post(url(User, f"{other.pk}/change/"), form).status_code == 302
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.reason) == ("operator.changed", "joined accounting")
    assert entry.changes == {"groups": [[], ["billing", "viewer"]]}


def test_what_a_group_may_do_is_audited() -> None:
    operator, group = signed_in(), Group.objects.get(name="viewer")
    page = operator.get(url(Group, f"{group.pk}/change/"))
    operator.post(url(Group, f"{group.pk}/change/"), form_on(page, permissions=[]))
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.target) == ("group.changed", f"Group {group.pk}: viewer")
    assert entry.changes["permissions"][1] == []
    assert group.permissions.count() == 0


def test_an_operator_who_goes_is_audited() -> None:
    operator, other = signed_in(), User.objects.create_user("bo", is_staff=True)
    operator.post(url(User, f"{other.pk}/delete/"), {"post": "yes"})
    assert [(entry.action, "bo" in entry.target) for entry in AuditEntry.objects.all()] == [("operator.deleted", True)]


def test_a_password_is_changed_with_an_entry_that_does_not_hold_it() -> None:
    operator, other = signed_in(), User.objects.create_user("bo", password="x", is_staff=True)
    form = {"password1": "a new passphrase", "password2": "a new passphrase", "usable_password": "true"}
    operator.post(url(User, f"{other.pk}/password/"), form | {"set-password": "1"})
    other.refresh_from_db()
    assert other.check_password("a new passphrase")
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.changes) == ("operator.password_changed", {"password": ["(hidden)", "(hidden)"]})


def test_ones_own_password_is_audited_too() -> None:
    operator = signed_in("viewer")
    form = {"old_password": "a long password", "new_password1": "a new passphrase", "new_password2": "a new passphrase"}
    assert operator.post("/admin/password_change/", form).status_code == 302
    assert [(entry.actor, entry.action) for entry in AuditEntry.objects.all()] == [
        ("olga", "operator.password_changed")
    ]


def test_the_hash_of_a_password_is_not_on_the_page() -> None:
    operator, other = signed_in(), User.objects.create_user("bo", password="x", is_staff=True)
    assert other.password.encode() not in operator.get(url(User, f"{other.pk}/change/")).content


def test_an_administrator_makes_no_superusers_and_does_not_touch_them() -> None:
    administrator = signed_in("administrator")
    boss = User.objects.create_superuser("boss", password="x")
    other = User.objects.create_user("bo", is_staff=True)
    page = administrator.get(url(User, f"{other.pk}/change/"))
    administrator.post(url(User, f"{other.pk}/change/"), form_on(page, is_superuser="on", first_name="Bo"))
    other.refresh_from_db()
    assert (other.is_superuser, other.first_name) == (False, "Bo")
    assert administrator.post(url(User, f"{boss.pk}/change/"), {"username": "boss"}).status_code == 403
    assert administrator.post(url(User, f"{boss.pk}/password/"), {}).status_code == 403
    assert administrator.post(url(User, f"{boss.pk}/delete/"), {"post": "yes"}).status_code == 403
