"""Filters that are kept under a name."""

from typing import Any

import pytest
from django.test import Client

from batches_app.console import saved_views
from batches_app.models import SavedView
from tests.operators import signed_in
from tests.tenants import Tenant

pytestmark = pytest.mark.django_db
LIST, VIEWS = "/console/batches", "/console/views"


def save(client: Client, name: str, query: str) -> Any:
    return client.post(VIEWS, {"name": name, "query": query}, follow=True)


def said(page: Any) -> list[str]:
    return [str(message) for message in page.context["messages"]]


def offered(page: Any) -> list[tuple[str, bool]]:
    """Each view, and whether it is what is shown."""
    return [(view.name, view.pk in page.context["current"]) for view in page.context["views"]]


def kept() -> list[tuple[str, str]]:
    return list(SavedView.objects.values_list("name", "query"))


def test_a_view_is_kept_shown_and_opened() -> None:
    Tenant("acme").has_batch()
    client = signed_in("viewer")
    page = save(client, "Acme's", "account=acme&status=failed&sort=deadline")
    assert said(page) == ["Saved as “Acme's”."]
    assert page.wsgi_request.get_full_path() == f"{LIST}?account=acme&status=failed&sort=deadline"
    assert offered(page) == [("Acme's", True)]
    assert f'href="{LIST}?account=acme&amp;status=failed&amp;sort=deadline"' in page.content.decode()
    assert offered(client.get(LIST)) == [("Acme's", False)]


def test_the_same_name_again_stands_for_the_new_filters() -> None:
    client = signed_in()
    save(client, "mine", "status=failed")
    save(client, " mine ", "status=expired")
    assert kept() == [("mine", "status=expired")]


def test_a_view_begins_at_the_first_page() -> None:
    save(signed_in(), "mine", "status=failed&after=x&size=25")
    assert kept() == [("mine", "status=failed&size=25")]


@pytest.mark.parametrize(
    ("name", "query", "sentence"),
    [
        ("", "", "Name: This field is required."),
        ("   ", "", "Name: This field is required."),
        ("n" * 61, "", "Name: Ensure this value has at most 60 characters (it has 61)."),
        ("a\0b", "", "Name: Null characters are not allowed."),
        ("mine", "statsu=x", "Filters: There is no filter “statsu”."),
        ("mine", "status=x", "Filters: Status: Select a valid choice. x is not one of the available choices."),
        ("mine", "sort=x", "Filters: Order: Select a valid choice. x is not one of the available choices."),
        ("mine", "q=" + "x" * 2000, "Filters: Ensure this value has at most 2000 characters (it has 2002)."),
    ],
)
def test_what_the_list_would_not_take_is_not_kept(name: str, query: str, sentence: str) -> None:
    assert said(save(signed_in(), name, query)) == [sentence]
    assert kept() == []


def test_there_are_only_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saved_views, "MOST", 2)
    client = signed_in()
    for name in ("a", "b"):
        save(client, name, "status=failed")
    assert said(save(client, "c", "status=failed")) == ["You have 2 saved views. Delete one first."]
    assert said(save(client, "b", "status=expired")) == ["Saved as “b”."]
    assert kept() == [("a", "status=failed"), ("b", "status=expired")]


def test_deleting_leads_back_to_the_list_that_was_shown() -> None:
    client = signed_in()
    save(client, "mine", "status=failed")
    page = client.post(f"{VIEWS}/{SavedView.objects.get().pk}/delete", {"query": "status=expired"}, follow=True)
    assert said(page) == ["“mine” is deleted."]
    assert page.wsgi_request.get_full_path() == f"{LIST}?status=expired"
    assert kept() == []


def test_views_are_of_one_operator_alone() -> None:
    olga, bo = signed_in(), signed_in(name="bo")
    save(olga, "mine", "status=failed")
    save(bo, "mine", "status=expired")
    assert kept() == [("mine", "status=failed"), ("mine", "status=expired")]
    assert [view.query for view in bo.get(LIST).context["views"]] == ["status=expired"]
    of_olga = SavedView.objects.get(query="status=failed")
    assert bo.post(f"{VIEWS}/{of_olga.pk}/delete").status_code == 404
    assert len(kept()) == 2


def test_nothing_is_changed_by_looking() -> None:
    client = signed_in()
    save(client, "mine", "status=failed")
    assert client.get(VIEWS).status_code == 405
    assert client.get(f"{VIEWS}/{SavedView.objects.get().pk}/delete").status_code == 405
    assert len(kept()) == 1


def test_a_page_elsewhere_cannot_save_one() -> None:
    client = Client(enforce_csrf_checks=True)
    client.cookies = signed_in().cookies
    assert client.post(VIEWS, {"name": "mine", "query": ""}).status_code == 403
    assert kept() == []


def test_back_leads_to_no_other_site() -> None:
    page = signed_in().post(VIEWS, {"name": "", "query": "//evil.example/?\r\nx: y"})
    assert page.headers["Location"].startswith(f"{LIST}?%2F%2Fevil.example")
