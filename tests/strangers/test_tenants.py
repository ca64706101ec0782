"""Who calls /v1 without a right to: every route, without a key, with what is none, and about what is another's.

C7: another account's file, batch or upload answers exactly as one that does not exist.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from batches_app import validation
from batches_app.models import Batch
from batches_app.states import Status
from billing_app import api_keys, authentication
from billing_app.models import Account
from config.api import ids
from config.api.views import ApiView
from files_app import retention
from files_app.models import StoredFile
from tests import books, routes, rows
from tests.factories import PriceFactory, ServedModelFactory
from tests.operators import signed_in
from tests.strangers.calls import CALLS, OPEN, Call, Thing, part
from tests.tenants import LINE, Tenant, error_of

pytestmark = pytest.mark.django_db

UNKNOWN = {
    Thing.INPUT: ids.input_file_id,
    Thing.OUTPUT: ids.output_file_id,
    Thing.BATCH: ids.batch_id,
    Thing.UPLOAD: ids.upload_id,
}
# Different each time, whoever asks: an id, the hour, and how much of a rate limit is left.
COUNTED = {"x-request-id", "date", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"}


def of_v1() -> list[routes.Route]:
    return [route for route in routes.every() if route.path.startswith("v1/") and route.path not in OPEN]


def every_call() -> Iterator[tuple[str, Call]]:
    return ((path, call) for path, calls in CALLS.items() for call in calls)


def address(path: str, call: Call, of: Mapping[Thing, str]) -> str:
    route = next(one for one in of_v1() if one.path == path)
    names = re.findall(r"<\w+:(\w+)>", path)
    return route.address(**dict.fromkeys(names, of[call.about] if call.about else "m"))


def things_of(tenant: Tenant) -> dict[Thing, str]:
    upload = tenant.post("uploads", {"filename": "in.jsonl", "purpose": "batch", "bytes": 9, "mime_type": "text/plain"})
    return {
        Thing.INPUT: tenant.has_file().public_id,
        Thing.OUTPUT: tenant.has_result(LINE).public_id,
        Thing.BATCH: tenant.has_batch(status=Status.IN_PROGRESS).public_id,
        Thing.UPLOAD: upload.json()["id"],
    }


def unknown() -> dict[Thing, str]:
    return {thing: new() for thing, new in UNKNOWN.items()}


def client_with(authorization: str | None) -> Client:
    return Client(raise_request_exception=False, headers={"Authorization": authorization} if authorization else {})


# The matrix knows every route


def test_every_route_and_method_of_v1_is_in_the_matrix() -> None:
    takes = {route.path: methods_of(route.view) for route in of_v1()}
    assert {path: {call.method for call in calls} for path, calls in CALLS.items()} == takes


def methods_of(view: type[ApiView]) -> set[str]:
    assert issubclass(view, ApiView), f"{view} is none of our views: it is open, or it is guarded by nobody."
    return {method.upper() for method in view.http_method_names if method != "head" and hasattr(view, method)}


def test_a_call_with_an_id_in_its_path_says_of_what() -> None:
    without = {path for path, call in every_call() if "<" in path and call.about is None}
    assert without == {"v1/models/<path:model_id>"}


# Without a key that is one


@dataclass(frozen=True)
class Refusal:
    authorization: str | None
    status: int
    code: str


@pytest.fixture
def acme() -> Tenant:
    ServedModelFactory(name="m", endpoints=["/v1/chat/completions"])
    PriceFactory(model_name="m")
    return Tenant("acme")


def refusals(tenant: Tenant) -> dict[str, Refusal]:
    now = timezone.now()
    revoked, revoked_key = api_keys.issue(tenant.account)
    api_keys.revoke(revoked, now=now)
    _, expired_key = api_keys.issue(tenant.account, expires_at=now - timedelta(seconds=1))
    disabled = Tenant("disabled")
    Account.objects.filter(pk=disabled.account.pk).update(is_enabled=False)
    wrong = {
        "none": None,
        "of another scheme": f"Basic {tenant.key}",
        "wrong": f"Bearer {tenant.key[:-1]}{'a' if tenant.key[-1] != 'a' else 'b'}",
        "revoked": f"Bearer {revoked_key}",
        "expired": f"Bearer {expired_key}",
        "the hash": f"Bearer {tenant.api_key.key_hash}",
        "the hint": f"Bearer {tenant.api_key.hint}",
    }
    found = {name: Refusal(authorization, 401, "invalid_api_key") for name, authorization in wrong.items()}
    return found | {"of a disabled account": Refusal(f"Bearer {disabled.key}", 403, "quota_exceeded")}


def test_nobody_is_let_in_by_any_route(acme: Tenant) -> None:
    """401 and 403 of the contract: the same answer everywhere, whatever is asked for, and nothing happens."""
    mine, nothing = things_of(acme), unknown()
    for name, refusal in refusals(acme).items():
        client_with(refusal.authorization).get("/v1/models")  # that it was used is written down of a key, once
        before = rows.snapshot()
        answers = set()
        for path, call in every_call():
            for of in (mine, nothing):
                answer = call.make(client_with(refusal.authorization), address(path, call, of), of)
                assert error_of(answer, refusal.status)["code"] == refusal.code, (name, path, call.method)
                answers.add(alike(answer, of))
        assert len(answers) == 1, name
        assert rows.snapshot() == before, name


@pytest.mark.parametrize("method", ["PUT", "PATCH", "OPTIONS", "TRACE"])
def test_nor_by_a_method_that_there_is_not(acme: Tenant, method: str) -> None:
    mine = things_of(acme)
    for path, call in every_call():
        answer = client_with(None).generic(method, address(path, call, mine))
        assert error_of(answer, 401)["code"] == "invalid_api_key"


def test_a_key_is_a_key_in_its_header_alone(acme: Tenant) -> None:
    """Not in the address, which logs and referrers keep, nor in a cookie, which a browser sends by itself."""
    client = client_with(None)
    client.cookies["Authorization"] = f"Bearer {acme.key}"
    for name in ("key", "api_key", "access_token", "token", "authorization"):
        error_of(client.get(f"/v1/models?{name}={acme.key}"), 401)
    error_of(Client(headers={"x-api-key": acme.key, "api-key": acme.key}).get("/v1/models"), 401)


def test_an_operator_s_session_is_no_key(acme: Tenant) -> None:
    """Not even a superuser's."""
    mine, client = things_of(acme), signed_in()
    before = rows.snapshot()
    for path, call in every_call():
        error_of(call.make(client, address(path, call, mine), mine), 401)
    assert rows.snapshot() == before


def test_what_is_open_says_nothing_of_anybody(acme: Tenant) -> None:
    mine = things_of(acme)
    there = {route.path for route in routes.every()} & OPEN - {"^v1(?:/|$)"}
    for path in there:
        said = client_with(None).get(f"/{path}").content.decode()
        assert not [one for one in (*mine.values(), "acme", acme.key, acme.api_key.hint) if one in said], path


# About what is another's


def alike(answer: Any, asked: Mapping[Thing, str]) -> tuple[object, ...]:
    """All of the answer but what differs anyway; the ids that were asked for read alike."""
    content = (answer.getvalue() if answer.streaming else answer.content).decode()
    for one in asked.values():
        content = content.replace(one, "<id>")
    headers = {name: value for name, value in answer.headers.items() if name.lower() not in COUNTED}
    return answer.status_code, answer.reason_phrase, content, tuple(sorted(headers.items()))


ABOUT = [(path, call) for path, call in every_call() if call.about]


@pytest.mark.parametrize(("path", "call"), ABOUT, ids=[f"{call.method} {path}" for path, call in ABOUT])
def test_what_is_another_s_is_as_if_it_were_not_there(path: str, call: Call, acme: Tenant) -> None:
    """C7: byte for byte, headers too, and nothing happens to it."""
    theirs, nothing, stranger = things_of(acme), unknown(), client_of(Tenant("stranger"))
    before = rows.snapshot()
    foreign = call.make(stranger, address(path, call, theirs), theirs)
    missing = call.make(stranger, address(path, call, nothing), nothing)
    assert foreign.status_code == 404
    assert alike(foreign, theirs) == alike(missing, nothing)
    assert rows.snapshot() == before
    # The same call finds it where it is the owner's.
    own = call.make(client_of(acme), address(path, call, theirs), theirs)
    own.getvalue() if own.streaming else own.content
    assert own.status_code != 404


def client_of(tenant: Tenant) -> Client:
    client = client_with(f"Bearer {tenant.key}")
    client.get("/v1/models")  # a key's first use is written down
    return client


@pytest.mark.parametrize("status", list(Status))
def test_in_whatever_state_it_is(status: Status, acme: Tenant) -> None:
    """C7: no 409 that tells it is done, no 400 that tells what it is for."""
    stranger, nothing = client_of(Tenant("stranger")), unknown() | {Thing.OUTPUT: ids.input_file_id()}
    theirs = {**nothing, Thing.BATCH: acme.has_batch(status=status).public_id, Thing.OUTPUT: acme.has_file().public_id}
    for path, call in ABOUT:
        if call.about in (Thing.BATCH, Thing.OUTPUT):
            foreign = call.make(stranger, address(path, call, theirs), theirs)
            assert alike(foreign, theirs) == alike(call.make(stranger, address(path, call, nothing), nothing), nothing)


def test_what_was_deleted_is_another_s_too(acme: Tenant) -> None:
    """Deleted and kept for a batch that runs: as gone for the owner as for everybody."""
    file, nothing = acme.has_file(), unknown() | {Thing.OUTPUT: ids.input_file_id()}
    retention.hold(file, "batch_x")
    retention.delete_file(file, now=timezone.now())
    theirs = {**nothing, Thing.INPUT: file.public_id, Thing.OUTPUT: file.public_id}
    for client in (client_of(acme), client_of(Tenant("stranger"))):
        for path, call in ABOUT:
            if call.about in (Thing.INPUT, Thing.OUTPUT):
                gone = call.make(client, address(path, call, theirs), theirs)
                assert alike(gone, theirs) == alike(call.make(client, address(path, call, nothing), nothing), nothing)


# In bodies, queries and lists


def test_an_estimate_of_another_s_file_is_one_of_none(acme: Tenant) -> None:
    stranger, call = client_of(Tenant("stranger")), CALLS["v1/batches/estimate"][0]
    theirs, nothing = things_of(acme), unknown()
    foreign, missing = (call.make(stranger, "/v1/batches/estimate", of) for of in (theirs, nothing))
    assert foreign.status_code == 404
    assert alike(foreign, theirs) == alike(missing, nothing)


@pytest.mark.parametrize("thing", [Thing.INPUT, Thing.OUTPUT])
def test_a_batch_of_another_s_file_is_created_and_fails_as_one_of_none(acme: Tenant, thing: Thing) -> None:
    """V11, C7."""
    stranger = Tenant("stranger")
    told = []
    for of in (things_of(acme), unknown()):
        created = stranger.create_batch(input_file_id=of[thing])
        batch = created.json()["id"]
        validation.validate(Batch.objects.get(public_id=batch).pk)
        failed = stranger.get(f"batches/{batch}")
        assert failed.json()["status"] == "failed"
        told.append([without_times(alike(answer, {**of, Thing.BATCH: batch})) for answer in (created, failed)])
    assert told[0] == told[1]
    assert not StoredFile.objects.get(account=acme.account, purpose="batch").holds.exists()


def without_times(answer: tuple[object, ...]) -> str:
    return re.sub(r'"(\w+_at)":\d+', r'"\1":0', str(answer))


@pytest.mark.parametrize("path", ["files", "batches"])
def test_no_page_begins_after_what_is_another_s(acme: Tenant, path: str) -> None:
    stranger, theirs, nothing = Tenant("stranger"), things_of(acme), unknown()
    thing = Thing.INPUT if path == "files" else Thing.BATCH
    foreign, missing = (stranger.get(path, {"after": of[thing]}) for of in (theirs, nothing))
    assert foreign.status_code == 400
    assert alike(foreign, theirs) == alike(missing, nothing)


def test_lists_are_of_one_account(acme: Tenant) -> None:
    """Whatever they are filtered by: what another has put there is not found."""
    theirs, nothing, stranger = things_of(acme), unknown(), Tenant("stranger")
    Batch.objects.update(metadata={"ds_name": "nightly"}, name="nightly", input_file_id=theirs[Thing.INPUT])
    for of in (theirs, nothing):
        for path, query in (
            ("files", {}),
            ("files", {"purpose": "batch"}),
            ("batches", {}),
            ("batches", {"input_file_ids": of[Thing.INPUT]}),
            ("batches", {"ds_name": "night"}),
            ("batches", {"status": "in_progress"}),
        ):
            assert stranger.get(path, query).json() == {
                "object": "list",
                "data": [],
                "first_id": None,
                "last_id": None,
                "has_more": False,
            }, (path, query)
    assert acme.get("batches", {"input_file_ids": theirs[Thing.INPUT], "ds_name": "night"}).json()["data"]


@pytest.mark.parametrize("path", ["usage", "costs"])
def test_nobody_sees_what_another_spends(acme: Tenant, path: str) -> None:
    today, stranger = int(timezone.now().timestamp()) // 86400 * 86400, Tenant("stranger")
    query = {"start_time": today, "end_time": today + 86400}
    before = [tenant.get(path, query).content for tenant in (acme, stranger)]
    books.use(acme.account, PriceFactory(model_name="m"), now=timezone.now())
    after = [tenant.get(path, query).content for tenant in (acme, stranger)]
    assert before[0] != after[0]
    assert before[1] == after[1]


def test_an_idempotency_key_is_the_account_s_own(acme: Tenant) -> None:
    """C5: another's key with another's request is a new request."""
    stranger = Tenant("stranger")
    theirs, own = (one.upload(LINE, key="k").json()["id"] for one in (acme, stranger))
    assert theirs != own
    theirs, own = (one.create_batch(idempotency_key="k").json()["id"] for one in (acme, stranger))
    assert theirs != own
    assert stranger.create_batch(idempotency_key="k", endpoint="/v1/embeddings").status_code == 409


def test_parts_of_another_s_upload_are_parts_of_none(acme: Tenant) -> None:
    """F10: in the body that completes an upload of one's own."""
    theirs, stranger = things_of(acme), Tenant("stranger")
    taken = client_of(acme).post(f"/v1/uploads/{theirs[Thing.UPLOAD]}/parts", part())
    own = things_of(stranger)[Thing.UPLOAD]
    told = []
    for part_id in (taken.json()["id"], ids.part_id()):
        answer = stranger.post(f"uploads/{own}/complete", {"part_ids": [part_id]})
        assert answer.status_code == 400
        told.append(str(alike(answer, {})).replace(part_id, "<part>"))
    assert told[0] == told[1]


def test_what_one_key_may_another_of_the_account_may(acme: Tenant) -> None:
    """The border is the account's, not the key's; a revoked one has left it."""
    of = things_of(acme)
    second, key = api_keys.issue(acme.account)
    client = client_with(f"Bearer {key}")
    assert client.get(f"/v1/batches/{of[Thing.BATCH]}").status_code == 200
    api_keys.revoke(second, now=timezone.now())
    authentication.forget()
    assert client.get(f"/v1/batches/{of[Thing.BATCH]}").status_code == 401
