"""Operators in the admin: a client with a role, and the forms of pages as a browser would send them."""

from html.parser import HTMLParser
from typing import Any

from django.contrib.auth.models import Group, Permission, User
from django.test import Client

SUPERUSER = "superuser"


def signed_in(role: str = SUPERUSER, name: str = "olga") -> Client:
    user = User.objects.filter(username=name).first() or User.objects.create_user(
        name, password="a long password", is_staff=True, is_superuser=role == SUPERUSER
    )
    if role != SUPERUSER:
        user.groups.add(Group.objects.get(name=role))
    client = Client()
    client.force_login(user)
    return client


def allowed(*permissions: str, name: str = "olga") -> Client:
    """An operator without a role, who has these permissions: `allowed("files_app.view_storedfile")`."""
    user = User.objects.create_user(name, is_staff=True)
    for permission in permissions:
        app, _, codename = permission.partition(".")
        user.user_permissions.add(Permission.objects.get(content_type__app_label=app, codename=codename))
    client = Client()
    client.force_login(user)
    return client


def url(model: Any, page: str = "") -> str:
    return f"/admin/{model._meta.app_label}/{model._meta.model_name}/{page}"


class _Fields(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, list[str]] = {}
        self._select = ""
        self._in_form = False

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        if tag == "form":
            self._in_form = given.get("method", "").lower() == "post" and given.get("id") != "logout-form"
        if not self._in_form:
            return
        if tag == "select":
            self._select = given["name"]
        elif tag == "option" and "selected" in given:
            self._add(self._select, given.get("value", ""))
        elif tag == "input" and given.get("name"):
            box = given.get("type") in ("checkbox", "radio")
            if given.get("type") != "submit" and (not box or "checked" in given):
                self._add(given["name"], given.get("value", "on" if box else ""))

    def _add(self, name: str, value: str) -> None:
        self.found.setdefault(name, []).append(value)


def form_on(page: Any, **changes: Any) -> dict[str, Any]:
    """What the page's form would send, after these fields were changed; one that is changed to None is left out."""
    fields = _Fields()
    fields.feed(page.content.decode())
    return {name: value for name, value in (fields.found | changes).items() if value is not None}
