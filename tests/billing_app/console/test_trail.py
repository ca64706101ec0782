"""The audit log: found by who, what, when and why, and taken along as CSV."""

import csv
import re
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from batches_app.models import Operation
from billing_app import audit
from billing_app.console.trail_filters import NOUNS
from billing_app.models import AuditEntry
from tests.factories import AccountFactory, BatchFactory, ServedModelFactory, StoredFileFactory
from tests.operators import signed_in
from tests.stack import ROOT

pytestmark = pytest.mark.django_db
AUDIT, CSV = "/console/audit", "/console/audit.csv"
AT = datetime(2026, 11, 20, 12, tzinfo=UTC)


def entry(target: str = "Batch 1: batch_a", **facts: Any) -> AuditEntry:
    defaults = {"actor": "olga", "action": "batch.cancelled", "address": "10.0.0.7", "reason": "wrong prompt"}
    return AuditEntry.objects.create(**(defaults | {"target": target} | facts))


def shown(client: Client, **query: str) -> str:
    answer = client.get(AUDIT, query)
    assert answer.status_code == 200
    return answer.content.decode()


def targets(query: dict[str, str], client: Client | None = None) -> list[str]:
    answer = (client or signed_in("viewer")).get(AUDIT, query)
    assert answer.status_code == 200
    return [row.entry.target for row in answer.context["rows"]]


def lines(query: dict[str, str], client: Client | None = None) -> list[list[str]]:
    answer = (client or signed_in("viewer")).get(CSV, query)
    assert answer.streaming
    text = b"".join(answer).decode("utf-8-sig")
    return list(csv.reader(StringIO(text, newline="")))


def test_an_entry_says_who_what_when_from_where_to_what_from_what_to_what_and_why() -> None:
    changes = {"status": ["in_progress", "cancelling"], "is_enabled": [True, False], "roles": [[], ["viewer", "x"]]}
    entry(account="acme", changes=changes, created_at=AT)
    page = shown(signed_in("viewer"))
    for text in ("olga", "10.0.0.7", "batch.cancelled", "batch_a", "acme", "2026-11-20 12:00:00", "wrong prompt"):
        assert text in page
    said = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page))
    for text in ("status in_progress → cancelling", "is enabled yes → no", "roles — → viewer, x"):
        assert text in said


def test_each_entry_leads_to_the_page_of_what_it_is_about() -> None:
    rows = {
        "batch": BatchFactory(),
        "file": StoredFileFactory(),
        "account": AccountFactory(name="nested batch_x: y"),
        "operation": Operation.objects.create(kind=Operation.Kind.CANCEL, created_by="olga"),
    }
    for row in rows.values():
        audit.record(actor="olga", action="x.y", target=row)
    model = ServedModelFactory()
    audit.record(actor="olga", action="x.y", target=model)
    client = signed_in("viewer")
    urls = [row.url for row in reversed(client.get(AUDIT).context["rows"])]
    wanted = [(name, getattr(row, "public_id", row.pk)) for name, row in rows.items()]
    assert urls[:4] == [reverse(f"console:{name}", args=[key]) for name, key in wanted]
    assert urls[4] == f"/console/models#model-{model.pk}"
    assert [client.get(url).status_code for url in urls] == [200] * 5


@pytest.mark.parametrize(
    "target",
    ["Batch 1: a/../b", "Batch 1: ", "Stored file 2: x y", "batch_abc", "User 3: Batch 1: batch_a", "RQ", "Price 9: m"],
)
def test_what_has_no_page_leads_nowhere(target: str) -> None:
    """Least of all to where a tenant's text would lead."""
    entry(target)
    [row] = signed_in("viewer").get(AUDIT).context["rows"]
    assert row.url == ""


def test_who_may_not_see_a_batch_is_not_led_to_it() -> None:
    user = User.objects.create_user("vic", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_auditentry"))
    client = Client()
    client.force_login(user)
    entry()
    page = shown(client)
    assert "batch_a" in page
    assert "/console/batches/batch_a" not in page
    assert client.get(reverse("console:usage")).status_code == 403


# Filters


@pytest.mark.parametrize(
    "query",
    [
        {"actor": "olga"},
        {"what": "batch"},
        {"account": "acme"},
        {"q": "BATCH_A"},
        {"q": "ba"},
        {"q": "wrong prom"},
        {"to": "2026-11-20"},
        {"to": "2026-11-20 12:30"},
        {"actor": "olga", "what": "batch", "account": "acme", "q": "batch", "from": "2026-11-20", "to": "2026-11-20"},
    ],
)
def test_each_filter_keeps_what_it_names_and_nothing_else(query: dict[str, str]) -> None:
    entry(account="acme", created_at=AT)
    others = {"actor": "peter", "action": "price.added", "reason": "new contract", "account": "acme2"}
    entry("Price 9: m", created_at=AT + timedelta(days=1), **others)
    assert targets(query) == ["Batch 1: batch_a"]


def test_a_time_is_that_of_the_viewer_or_a_span_from_now() -> None:
    entry("early", created_at=AT)
    entry("late", created_at=AT + timedelta(hours=1))
    entry("now", created_at=timezone.now() + timedelta(days=365))
    client = signed_in("viewer")
    assert targets({"from": "2026-11-20 12:30", "to": "2026-11-20"}, client) == ["late"]
    client.cookies["timezone"] = "Asia/Shanghai"
    assert targets({"from": "2026-11-20 20:30", "to": "2026-11-20 21:30"}, client) == ["late"]
    assert "now" in targets({"from": "24h"}, client)
    assert "now" not in targets({"to": "24h"}, client)


@pytest.mark.parametrize(
    "query",
    [
        {"what": "weather"},
        {"from": "soon"},
        {"after": "x"},
        {"before": "WzFd"},
        {"q": "a" * 201},
        {"q": "a\0"},
        {"actor": "a\0"},
        {"page": "2"},
        {"after": "x", "before": "y"},
    ],
)
def test_a_filter_that_cannot_be_read_is_said_and_lists_nothing(query: dict[str, str]) -> None:
    entry()
    client = signed_in("viewer")
    answer = client.get(AUDIT, query)
    assert answer.status_code == 400
    assert 'role="alert"' in answer.content.decode()
    assert "batch_a" not in answer.content.decode()
    if not {"after", "before"} & {*query}:
        assert client.get(CSV, query).status_code == 400


def test_what_a_form_leaves_empty_is_not_in_the_address() -> None:
    answer = signed_in("viewer").get(AUDIT, {"q": "", "actor": "olga", "what": "", "from": ""})
    assert answer.headers["Location"] == f"{AUDIT}?actor=olga"


def test_every_kind_of_thing_that_is_acted_on_can_be_chosen() -> None:
    """A new action needs its noun in the filter."""
    sources = [
        path for app in ("billing_app", "files_app", "batches_app", "config") for path in Path(ROOT, app).rglob("*.py")
    ]
    patterns = (r'action=f?"([a-z]+)\.', r'audit_noun(?:, audit_added)? = "([a-z]+)"', r'ACTION = "([a-z]+)\.')
    found = {noun for path in sources for pattern in patterns for noun in re.findall(pattern, path.read_text())}
    assert {"batch", "account", "operator"} < found
    assert found <= {*NOUNS}


def test_who_signs_in_and_out_and_what_leaves_as_a_file_is_there() -> None:
    client, user = Client(), User.objects.create_user("olga", password="a long one", is_staff=True)
    user.groups.add(Group.objects.get(name="administrator"))
    client.post("/console/login", {"username": "olga", "password": "wrong"})
    client.post("/console/login", {"username": "olga", "password": "a long one"})
    for address in (f"{AUDIT}.csv?actor=olga", "/console/batches.csv", "/console/usage.csv"):
        assert client.get(address).status_code == 200
    client.post("/console/logout")
    client.post("/console/logout")
    told = AuditEntry.objects.order_by("id").values_list("actor", "action", "target")
    assert list(told) == [
        ("olga", "operator.signed_in", f"User {user.pk}: olga"),
        ("olga", "list.exported", "audit log"),
        ("olga", "list.exported", "batches"),
        ("olga", "list.exported", "usage"),
        ("olga", "operator.signed_out", f"User {user.pk}: olga"),
    ]
    assert AuditEntry.objects.get(target="audit log").changes == {"address": [None, f"{AUDIT}.csv?actor=olga"]}


# Pages


def test_pages_follow_one_another_without_gap_or_repetition() -> None:
    AuditEntry.objects.bulk_create(
        AuditEntry(actor="olga", action="key.issued", target=f"Key <{n}>", created_at=AT) for n in range(120)
    )
    client, seen = signed_in("viewer"), []
    query: dict[str, str] = {}
    while True:
        answer = client.get(AUDIT, query)
        seen += [row.entry.target for row in answer.context["rows"]]
        if not answer.context["page"].after:
            break
        query = {"after": answer.context["page"].after}
    assert seen == [f"Key <{n}>" for n in reversed(range(120))]
    back = client.get(AUDIT, {"before": answer.context["page"].before})
    assert [row.entry.target for row in back.context["rows"]] == seen[50:100]
    first = client.get(AUDIT, {"before": back.context["page"].before})
    assert [row.entry.target for row in first.context["rows"]] == seen[:50]


def test_an_empty_log_says_what_will_be_in_it() -> None:
    assert "Whatever operators do" in shown(signed_in("viewer"))
    assert "No entry matches" in shown(signed_in("viewer"), actor="nobody")


# As CSV


def test_csv_has_all_that_match_in_order_and_no_formula() -> None:
    entry(reason='=HYPERLINK("http://evil")', created_at=AT, account="acme", changes={"a_b": [1, None]})
    entry("Price 9: m", action="price.added")
    AuditEntry.objects.bulk_create(AuditEntry(actor="o", action="key.issued", target=f"{n}") for n in range(1100))
    client = signed_in("viewer")
    client.cookies["timezone"] = "Asia/Shanghai"
    assert lines({"what": "batch"}, client) == [
        ["when (Asia/Shanghai)", "who", "from where", "what", "on what", "account", "from → to", "why"],
        [
            *("2026-11-20 20:00:00", "olga", "10.0.0.7", "batch.cancelled", "Batch 1: batch_a", "acme"),
            *("a b: 1 → —", '\'=HYPERLINK("http://evil")'),
        ],
    ]
    assert [row[4] for row in lines({"what": "key"}, client)[1:]] == [f"{n}" for n in reversed(range(1100))]


def test_hostile_text_is_harmless() -> None:
    hostile = "<script>alert(1)</script>\u202e"
    entry(hostile, actor=hostile, account=hostile, reason=hostile, changes={hostile: [hostile, hostile * 300]})
    page = shown(signed_in("viewer"))
    assert "<script>alert" not in page
    assert "\u202e" not in page


def test_a_page_of_entries_takes_few_queries(django_assert_max_num_queries: Any) -> None:
    client = signed_in("viewer")
    for number in range(60):
        entry(f"Batch {number}: batch_{number}")
    with django_assert_max_num_queries(12):
        shown(client, what="batch", actor="olga", q="batch")
