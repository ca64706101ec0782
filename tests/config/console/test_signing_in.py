"""The door of the console and of the admin: who is let in, who is locked out, and where they come out."""

from datetime import timedelta
from typing import Any

import pytest
from axes.models import AccessAttempt
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client

from batches_app.models import Operation
from tests.operators import signed_in

pytestmark = pytest.mark.django_db
LOGIN, HOME = "/console/login", "/console/"
PASSWORD = "a long password"
WRONG = "do not go together"


@pytest.fixture(autouse=True)
def olga() -> User:
    signed_in("viewer")
    return User.objects.get(username="olga")


def sign_in(client: Client, password: str = PASSWORD, *, name: str = "olga", next: str = "", **meta: str) -> Any:
    form = {"username": name, "password": password} | ({"next": next} if next else {})
    return client.post(LOGIN, form, **meta)  # type: ignore[arg-type]  # of the request's environment


def is_in(client: Client) -> bool:
    return client.get("/console/files").status_code == 200


def fail(times: int, client: Client | None = None, **meta: str) -> list[int]:
    client = client or Client()
    return [sign_in(client, "a wrong one", **meta).status_code for _ in range(times)]


def test_an_operator_comes_to_the_overview() -> None:
    client = Client()
    assert sign_in(client)["Location"] == HOME
    assert is_in(client)


@pytest.mark.parametrize(("name", "password"), [("olga", "no"), ("nobody", PASSWORD), ("Olga", PASSWORD), ("olga", "")])
def test_who_is_wrong_is_told_so_and_not_which_of_the_two_it_is(name: str, password: str) -> None:
    client = Client()
    page = sign_in(client, password, name=name)
    assert page.status_code == 200
    assert (WRONG if password else "This field is required") in page.content.decode()
    assert not is_in(client)


def test_what_cannot_be_a_name_is_no_error() -> None:
    for name in ("a\0b", "x" * 10_000, "\u202eaglo", "<script>"):
        page = sign_in(Client(), name=name)
        assert page.status_code == 200
        assert "<script>" not in page.content.decode()


def test_what_comes_with_a_wrong_password_is_written_down_whatever_it_is() -> None:
    form = {"username": "olga", "password": "no", "more": "x" * 10_000}
    strange = {"User-Agent": "\xff" + "x" * 5000, "Accept": "x" * 5000}
    assert Client(headers=strange).post(f"{LOGIN}?x=%00%ff", form).status_code == 200
    assert AccessAttempt.objects.count() == 1


def test_who_is_not_active_is_not_told_that_the_password_was_right(olga: User) -> None:
    User.objects.update(is_active=False)
    client = Client()
    assert WRONG in sign_in(client).content.decode()
    assert not is_in(client)


def test_who_is_switched_off_is_out_at_once() -> None:
    client = signed_in("viewer")
    assert is_in(client)
    User.objects.update(is_active=False)
    assert client.get("/console/files")["Location"] == f"{LOGIN}?next=/console/files"


# Not an operator


def test_a_name_that_is_no_operator_s_is_told_so_and_not_let_in() -> None:
    User.objects.create_user("tim", password=PASSWORD)
    client = Client()
    assert "is not an operator" in sign_in(client, name="tim").content.decode()
    assert "sessionid" not in client.cookies


def test_who_is_an_operator_no_more_gets_a_page_and_not_a_loop() -> None:
    """The admin sends them to its login, that to the console's, and that back to where they came from."""
    client = signed_in("viewer")
    User.objects.update(is_staff=False)
    for start in ("/admin/", LOGIN, f"{LOGIN}?next=/admin/", HOME, "/console/files"):
        page = client.get(start, follow=True)
        assert page.status_code == 403, start
        assert "which is not an operator" in page.content.decode()
    assert "Sign in as somebody else" in page.content.decode()
    client.post("/console/logout")
    assert client.get(LOGIN).status_code == 200


# Lockout


def test_eight_wrong_passwords_lock_the_name_from_there() -> None:
    assert fail(8) == [200] * 7 + [429]
    page = sign_in(Client())
    assert page.status_code == 429
    assert "Too many wrong passwords" in page.content.decode()
    assert "15 minutes" in page.content.decode()


def test_from_elsewhere_and_for_others_the_door_is_open() -> None:
    fail(8)
    signed_in("viewer", name="vera")
    assert sign_in(Client(), name="vera").status_code == 302
    assert sign_in(Client(), REMOTE_ADDR="10.0.0.9").status_code == 302
    assert sign_in(Client()).status_code == 429


def test_an_address_that_is_only_claimed_opens_nothing() -> None:
    """No proxy is trusted unless TRUSTED_PROXIES says how many there are."""
    fail(8)
    assert sign_in(Client(), HTTP_X_FORWARDED_FOR="10.0.0.9").status_code == 429
    answers = [sign_in(Client(), "no", name="vera", HTTP_X_FORWARDED_FOR=f"10.0.0.{n}").status_code for n in range(8)]
    assert answers[-1] == 429


def test_it_opens_by_itself_and_more_attempts_do_not_prolong_it() -> None:
    fail(8)
    past = settings.AXES_COOLOFF_TIME + timedelta(seconds=1)
    for attempt in AccessAttempt.objects.all():
        AccessAttempt.objects.filter(pk=attempt.pk).update(attempt_time=attempt.attempt_time - past / 2)
    assert fail(3) == [429] * 3
    for attempt in AccessAttempt.objects.all():
        AccessAttempt.objects.filter(pk=attempt.pk).update(attempt_time=attempt.attempt_time - past / 2)
    assert sign_in(Client()).status_code == 302


def test_who_gets_in_begins_anew() -> None:
    fail(7)
    assert sign_in(Client()).status_code == 302
    assert fail(8) == [200] * 7 + [429]


def test_who_is_signed_in_already_is_not_locked_out_by_others() -> None:
    client = signed_in("viewer")
    fail(8)
    assert is_in(client)


# Where to


@pytest.mark.parametrize(
    ("wanted", "comes_to"),
    [
        ("/console/files?purpose=batch", "/console/files?purpose=batch"),
        ("/admin/", "/admin/"),
        ("http://testserver/console/files", "http://testserver/console/files"),
        ("https://evil.example/", HOME),
        ("//evil.example/", HOME),
        ("/\\evil.example/", HOME),
        ("///evil.example", HOME),
        ("http:///evil.example", HOME),
        ("\thttps://evil.example", HOME),
        ("https://testserver@evil.example/", HOME),
        ("javascript:alert(1)", HOME),
        ("data:text/html,x", HOME),
        (LOGIN, HOME),
        (f"{LOGIN}?next={LOGIN}", HOME),
    ],
)
def test_after_the_door_one_stays_in_the_house(wanted: str, comes_to: str) -> None:
    client = Client()
    assert sign_in(client, next=wanted)["Location"] == comes_to
    assert client.get(LOGIN, {"next": wanted})["Location"] == comes_to  # who is in already
    fresh = Client().get(LOGIN, {"next": wanted}).content.decode()
    assert "evil" not in fresh.partition('name="next"')[2].partition(">")[0]


def test_a_line_break_in_the_address_makes_no_header() -> None:
    answer = sign_in(Client(), next="/console/files\r\nSet-Cookie: a=b")
    assert "a" not in answer.cookies
    assert "\n" not in answer["Location"]


def test_a_page_asked_for_too_early_is_the_one_that_opens() -> None:
    client = Client()
    asked = client.get("/console/files?purpose=batch")
    form = client.get(asked["Location"]).content.decode()
    assert 'name="next" value="/console/files?purpose=batch"' in form
    assert sign_in(client, next="/console/files?purpose=batch")["Location"] == "/console/files?purpose=batch"


def test_what_was_sent_too_late_is_not_what_opens() -> None:
    """After the session has ended: that address takes no GET."""
    assert Client().post("/console/models/1/pause")["Location"] == f"{LOGIN}?next=/console/"


def test_a_live_part_whose_session_has_ended_takes_its_page_to_the_door() -> None:
    """And does not show the door in the part's place."""
    answer = Client().get("/console/files", headers={"HX-Request": "true"})
    assert (answer.status_code, answer["HX-Refresh"], answer.content) == (200, "true", b"")


def test_the_admin_s_door_is_the_console_s() -> None:
    client = Client()
    first = client.get("/admin/billing_app/account/")
    assert first["Location"] == "/admin/login/?next=/admin/billing_app/account/"
    second = client.get(first["Location"])
    assert second["Location"] == f"{LOGIN}?next=/admin/billing_app/account/"
    assert client.post("/admin/login/", {"username": "olga", "password": PASSWORD})["Location"].startswith(LOGIN)
    assert "sessionid" not in client.cookies
    assert client.get("/admin/login/?next=https://evil.example/")["Location"].startswith(LOGIN)
    assert sign_in(client, next="/admin/billing_app/account/")["Location"] == "/admin/billing_app/account/"


# Out


def test_signing_out_ends_the_session() -> None:
    client = signed_in("viewer")
    key = client.session.session_key
    assert client.post("/console/logout")["Location"] == LOGIN
    assert not is_in(client)
    thief = Client()
    thief.cookies["sessionid"] = str(key)
    assert not is_in(thief)


def test_a_link_signs_nobody_out() -> None:
    client = signed_in("viewer")
    assert client.get("/console/logout").status_code == 405
    assert is_in(client)


def test_signing_out_leads_nowhere_else() -> None:
    assert signed_in("viewer").post("/console/logout", {"next": "https://evil.example/"})["Location"] == LOGIN


def test_signing_in_gives_another_session_than_before() -> None:
    """One that somebody put into the browser before is of no use to them."""
    client = Client()
    planted = client.session
    planted.save()
    client.cookies["sessionid"] = str(planted.session_key)
    sign_in(client)
    assert client.cookies["sessionid"].value != planted.session_key
    assert client.cookies["sessionid"]["httponly"]
    assert client.cookies["sessionid"]["samesite"] == "Lax"


# Preferences


def test_theme_and_language_are_kept_in_the_browser() -> None:
    client = Client()  # also before signing in
    answer = client.post("/console/preferences", {"theme": "dark", "back": f"{LOGIN}?next=/admin/"})
    assert answer["Location"] == f"{LOGIN}?next=/admin/"
    assert answer.cookies["theme"]["httponly"]
    assert answer.cookies["theme"]["samesite"] == "Lax"
    client.post("/console/preferences", {"language": "zh-hans"})
    page = client.get(LOGIN).content.decode()
    assert '<html lang="zh-hans" data-theme="dark">' in page


@pytest.mark.parametrize(
    "form", [{"theme": "pink"}, {"language": "de"}, {"language": "x" * 5000}, {"theme": "a\0"}, {}]
)
def test_what_nobody_offers_is_not_kept(form: dict[str, str]) -> None:
    answer = Client().post("/console/preferences", form)
    assert answer.status_code == 302
    assert not answer.cookies


@pytest.mark.parametrize("theme", ["pink", '"><script>alert(1)</script>', "", "dark\x00"])
def test_a_cookie_that_is_none_of_ours_changes_nothing(theme: str) -> None:
    client = Client()
    client.cookies["theme"] = theme
    client.cookies["django_language"] = theme
    assert '<html lang="en" data-theme="auto">' in client.get(LOGIN).content.decode()


@pytest.mark.parametrize(
    "back", ["https://evil.example/", "//evil.example", "javascript:alert(1)", "", "/\\evil.example"]
)
def test_preferences_lead_back_to_this_host_only(back: str) -> None:
    assert Client().post("/console/preferences", {"theme": "dark", "back": back})["Location"] == HOME


@pytest.mark.parametrize("path", ["/console/preferences", "/console/logout", "/console/operations/cancel"])
def test_who_opens_the_address_of_a_form_reads_that_it_is_no_page(path: str) -> None:
    answer = signed_in().get(path)
    assert (answer.status_code, answer["Allow"]) == (405, "POST" if "logout" not in path else "POST, OPTIONS")
    assert "This address is not a page" in answer.content.decode()


def test_preferences_lead_back_to_the_page_but_never_to_the_address_of_a_form() -> None:
    assert (
        'name="back" value="/console/files?purpose=batch"'
        in signed_in().get("/console/files?purpose=batch").content.decode()
    )
    draft = Operation.objects.create(kind="cancel", created_by="olga")
    unreasoned = signed_in("operator").post(f"/console/operations/{draft.pk}/start")
    assert unreasoned.status_code == 400
    assert 'name="back" value=""' in unreasoned.content.decode()


# Forms of other sites


def test_a_form_from_elsewhere_does_nothing_and_is_explained() -> None:
    client = Client(enforce_csrf_checks=True)
    for path in (LOGIN, "/console/logout", "/console/preferences"):
        page = client.post(path, {"username": "olga", "password": PASSWORD, "theme": "dark"})
        assert page.status_code == 403
        assert "This form is out of date" in page.content.decode()
        assert not page.cookies.get("sessionid")
        assert not page.cookies.get("theme")


def test_with_its_token_the_form_works() -> None:
    client = Client(enforce_csrf_checks=True)
    token = client.get(LOGIN).context["csrf_token"]
    form = {"username": "olga", "password": PASSWORD, "csrfmiddlewaretoken": str(token)}
    assert client.post(LOGIN, form).status_code == 302
