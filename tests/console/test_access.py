"""Who may open and send what: every route of the console and of RQ's dashboard, for everybody who may come by."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse

from batches_app.models import Operation, SavedView
from batches_app.roles import ROLES
from billing_app import months
from tests import private_redis, routes, rows
from tests.factories import ServedModelFactory
from tests.operators import SUPERUSER, allowed, signed_in
from tests.tenants import Tenant

pytestmark = pytest.mark.django_db

Who = frozenset[str]
VIEWER, OPERATOR, BILLING, ADMINISTRATOR = ROLES
OPERATORS: Who = frozenset(ROLES)
OPERATING: Who = frozenset({OPERATOR, ADMINISTRATOR})
MONEY: Who = frozenset({BILLING, ADMINISTRATOR})
ADMINISTRATORS: Who = frozenset({ADMINISTRATOR})
NOBODY, NOT_STAFF, NO_RIGHTS = "nobody", "not staff", "no rights"
EVERYBODY: Who = OPERATORS | {NOBODY, NOT_STAFF, NO_RIGHTS}
ACTORS = (NOBODY, NOT_STAFF, NO_RIGHTS, *ROLES)


@dataclass(frozen=True)
class Rule:
    """Who may GET and who may POST; None: that is no method of this route."""

    get: Who | None = None
    post: Who | None = None


def looks(who: Who = OPERATORS) -> Rule:
    return Rule(get=who)


def acts(who: Who) -> Rule:
    return Rule(post=who)


RULES = {
    "overview": looks(),
    "batches": looks(),
    "batches_csv": looks(),
    "batch": looks(),
    "lines": looks(ADMINISTRATORS),
    "line": looks(ADMINISTRATORS),
    "line_part": looks(ADMINISTRATORS),
    "save_view": acts(OPERATORS),
    "delete_view": acts(OPERATORS),
    "operations": looks(),
    "operation": looks(),
    "draft_cancel": acts(OPERATING),
    "draft_retry": acts(OPERATING),
    "start_operation": acts(OPERATING),
    "abort_operation": acts(OPERATING),
    "files": looks(),
    "file": looks(),
    "download_file": looks(ADMINISTRATORS),
    "delete_file": Rule(get=ADMINISTRATORS, post=ADMINISTRATORS),
    "accounts": looks(),
    "account": looks(),
    "statement": looks(MONEY),
    "models": looks(),
    "pause_model": acts(OPERATING),
    "resume_model": acts(OPERATING),
    "probe_model": acts(OPERATING),
    "usage": looks(),
    "usage_csv": looks(),
    "workers": looks(),
    "audit": looks(),
    "audit_csv": looks(),
}
RQ_LOOKS = (
    *("home", "jobs", "queue_details", "finished_jobs", "failed_jobs", "scheduled_jobs", "started_jobs"),
    *("deferred_jobs", "job_detail", "result_detail", "workers", "worker_details", "scheduler_jobs"),
    *("cron_scheduler_detail", "cron_job_detail", "home_json", "metrics"),
)
RQ_ACTS = (
    *("delete_failed_jobs", "clear", "requeue_all", "delete_job", "requeue_job", "enqueue_job", "stop_job"),
    *("confirm_action", "actions"),
)
RQ_RULES = {name: looks(ADMINISTRATORS) for name in RQ_LOOKS} | {
    name: Rule(get=ADMINISTRATORS, post=ADMINISTRATORS) for name in RQ_ACTS
}
# Of the door itself, which is open.
DOOR = {
    "login": Rule(get=EVERYBODY - {NOT_STAFF}, post=EVERYBODY - {NOT_STAFF}),
    "logout": acts(EVERYBODY),
    "preferences": acts(EVERYBODY),
}
TABLE = {f"console:{name}": rule for name, rule in (RULES | DOOR).items()} | {
    f"django_rq:{name}": rule for name, rule in RQ_RULES.items()
}
OWN_REFUSALS = {"django_rq:stop_job"}  # takes POST alone, and says so after it has seen who asks


def known() -> dict[str, URLPattern]:
    return {f"console:{route.name}": route for route in routes.console()} | {
        f"django_rq:{route.name}": route for route in _rq()
    }


def _rq() -> list[URLPattern]:
    found = next(one for one in get_resolver().url_patterns if getattr(one, "namespace", "") == "django_rq")
    assert isinstance(found, URLResolver)
    return list(found.url_patterns)  # type: ignore[arg-type]  # none of them is a resolver


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with private_redis.running(tmp_path_factory.mktemp("r")) as url:
        yield url


@pytest.fixture
def addresses(redis_url: str, settings: Any) -> dict[str, str]:
    """Of every route, with something there."""
    settings.RQ_QUEUES = {name: config | {"URL": redis_url} for name, config in settings.RQ_QUEUES.items()}
    acme = Tenant("acme")
    file, batch = acme.has_file(), acme.has_batch(status="in_progress")
    operation = Operation.objects.create(kind="cancel", created_by="x", targets=[batch.pk], total=1)
    numbers = {
        "models": ServedModelFactory().pk,
        "operations": operation.pk,
        "accounts": acme.account.pk,
        "views": SavedView.objects.create(user=User.objects.create_user("owner"), name="v").pk,
    }
    this_month = f"{months.containing(batch.created_at)}.csv"
    texts = {"key": "l1", "part": "request", "file": this_month, "job_id": "x", "result_id": "x"}
    names = {"scheduler_name": "x", "cron_job_name": "x"}
    indexes = {"queue_index": 1, "scheduler_index": 0, "connection_index": 0}
    ids = {"batches": batch.public_id, "files": file.public_id}

    def address(name: str, route: URLPattern) -> str:
        first = str(route.pattern).partition("/")[0]
        values = texts | names | indexes | {"pk": numbers.get(first), "public_id": ids.get(first)}
        return reverse(name, kwargs={key: values[key] for key in route.pattern.converters})

    return {name: address(name, route) for name, route in known().items()}


def becomes(actor: str) -> User | None:
    if actor == NOBODY:
        return None
    if actor == NO_RIGHTS:
        allowed(name=actor)
    else:
        signed_in(VIEWER if actor == NOT_STAFF else actor, name=actor)
    if actor == NOT_STAFF:  # and had been an operator with a role
        User.objects.filter(username=actor).update(is_staff=False)
    return User.objects.get(username=actor)


def outcome(answer: Any) -> str:
    assert answer.status_code < 500, answer.request["PATH_INFO"]
    if answer.streaming:
        answer.getvalue()
    if answer.status_code == 302 and answer["Location"].startswith("/console/login?next="):
        return "to sign in"
    return {403: "refused", 405: "no such method"}.get(answer.status_code, "allowed")


def expected(rule: Rule, method: str, actor: str) -> str:
    who = rule.get if method == "get" else rule.post
    if who is None:
        return "no such method"
    if actor in who:
        return "allowed"
    return "to sign in" if actor == NOBODY else "refused"


def test_every_route_is_in_the_table_and_none_is_in_it_that_is_gone() -> None:
    assert sorted(known()) == sorted(TABLE)


def test_every_route_has_a_name_and_a_guard() -> None:
    """`access.page`, which refuses whoever has not been let in by name."""
    for name, route in known().items():
        assert route.name
        assert hasattr(route.callback, "permissions") or name.partition(":")[2] in DOOR, name


def test_nothing_but_these_routes_is_below_the_console() -> None:
    below = [one for one in get_resolver().url_patterns if str(one.pattern).startswith("console")]
    assert [getattr(one, "namespace", None) for one in below] == ["console", "django_rq"]
    for resolver in below:
        assert isinstance(resolver, URLResolver)
        assert all(isinstance(route, URLPattern) for route in resolver.url_patterns)


@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize("actor", ACTORS)
def test_each_opens_and_sends_what_they_may_and_nothing_else(
    actor: str, method: str, addresses: dict[str, str]
) -> None:
    """A form with nothing in it: who may send it is told what is missing."""
    user = becomes(actor)
    got = {}
    for name, address in addresses.items():
        client = Client()
        if user is not None:
            client.force_login(user)  # each time: one of them signs out
        got[name] = outcome(getattr(client, method)(address))
    wanted = {name: expected(rule, method, actor) for name, rule in TABLE.items()}
    if method == "get":
        wanted |= {name: "no such method" for name in OWN_REFUSALS if wanted[name] == "allowed"}
    assert got == wanted


@pytest.mark.parametrize("method", ["put", "patch", "delete"])
def test_there_are_no_other_methods(method: str, addresses: dict[str, str]) -> None:
    client = signed_in()
    for name, address in addresses.items():
        if name != "console:login":  # Django's view takes a PUT for a form, which then is empty
            assert getattr(client, method)(address).status_code == 405, name


def test_a_get_changes_nothing(addresses: dict[str, str]) -> None:
    """Nor does a HEAD. What an operator has looked at is written down, and that is all."""
    client = signed_in()
    client.get("/console/")  # a session that is new is written
    before = _rows()
    for name, address in addresses.items():
        for method in (client.get, client.head):
            answer = method(address)
            if answer.streaming:
                answer.getvalue()
            assert _rows() == before, name


def _rows() -> dict[str, Any]:
    return rows.snapshot(besides=rows.WRITTEN_BY_LOOKING)


def test_a_form_from_another_site_does_nothing(addresses: dict[str, str]) -> None:
    """Whoever's browser sends it."""
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.create_superuser("root"))
    before = _rows()
    for name, rule in TABLE.items():
        if rule.post is not None:
            answer = client.post(addresses[name], {"reason": "x", "ids": "x"})
            assert answer.status_code == 403, name
            assert "This form is out of date" in answer.content.decode(), name
            assert _rows() == before, name


def test_an_operation_is_started_and_aborted_by_who_may_do_what_it_does(addresses: dict[str, str]) -> None:
    """Not by whoever may see operations."""
    Operation.objects.update(kind="retry")
    client = allowed("batches_app.view_operation", "batches_app.cancel_batch")
    for name in ("start_operation", "abort_operation"):
        assert client.post(addresses[f"console:{name}"], {"reason": "x"}).status_code == 403
    assert Operation.objects.get().state == "draft"


def test_a_saved_view_is_its_owner_s_alone(addresses: dict[str, str]) -> None:
    assert signed_in().post(addresses["console:delete_view"]).status_code == 404
    assert SavedView.objects.count() == 1


def test_the_menu_has_what_the_viewer_may_see(addresses: dict[str, str]) -> None:
    page = allowed("files_app.view_storedfile", name="files").get(addresses["console:files"])
    assert [entry["url"] for entry in page.context["menu"]] == ["/console/files"]
    for role in ROLES:
        client = signed_in(role, name=role)
        menu = client.get("/console/").context["menu"]
        assert len(menu) == 9
        assert all(client.get(entry["url"]).status_code == 200 for entry in menu)


HUGE, NUL = 10**30, "a\0b"


@pytest.mark.parametrize("number", [0, 2**63, HUGE])
def test_a_number_that_nothing_has_is_not_found(number: int, addresses: dict[str, str]) -> None:
    client = signed_in()
    for name, route in known().items():
        if "pk" in route.pattern.converters:
            values = {"pk": number, "file": "2026-11.csv"}
            address = reverse(name, kwargs={key: values[key] for key in route.pattern.converters})
            send: Callable[..., Any] = client.get if TABLE[name].get else client.post
            assert send(address).status_code == 404, name


@pytest.mark.parametrize("text", [NUL, "x" * 5000, "%2e%2e%2f", "\u202ex", "batch_", "a b"])
def test_an_id_that_nothing_has_is_not_found(text: str, addresses: dict[str, str]) -> None:
    client = signed_in()
    for name, route in known().items():
        if "public_id" in route.pattern.converters and name.startswith("console:"):
            values = {"public_id": text, "key": "l1", "part": "request"}
            address = reverse(name, kwargs={key: values[key] for key in route.pattern.converters})
            assert client.get(address).status_code == 404, name


def test_the_groups_are_those_that_the_table_speaks_of() -> None:
    assert set(Group.objects.values_list("name", flat=True)) == set(ROLES)
    assert SUPERUSER not in ROLES
