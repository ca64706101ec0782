"""The overview: what is wrong first, each with a link to what is meant; then what runs, gets done and costs."""

import re
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from batches_app import attention, queue
from batches_app.attention import Kind
from batches_app.console import concerns
from batches_app.models import Batch, LaneMinute, ReconcileRun, ServedModel
from batches_app.queue import Snapshot, WorkerState
from batches_app.states import Status
from billing_app import months
from billing_app.models import BudgetAlert, Price
from billing_app.pricing import Tokens
from tests import books
from tests.factories import AccountFactory, BatchFactory, LaneFactory, PriceFactory, ServedModelFactory, ShardFactory
from tests.operators import signed_in

pytestmark = pytest.mark.django_db
PAGE = "/console/"


def shown(client: Client | None = None, query: str = "") -> str:
    answer = (client or signed_in("viewer")).get(PAGE + query)
    assert answer.status_code == 200
    return answer.content.decode()


def told(page: str) -> dict[str, str]:
    """The sentences of what needs attention, and where each leads."""
    return {words: url.replace("&amp;", "&") for url, words in re.findall(r'<div><a href="([^"]+)">([^<]+)</a>', page)}


def tile(page: str, label: str) -> str:
    """A tile's value and note, as text."""
    (found,) = re.findall(rf'<span class="tile-label">{label}</span>(.*?)</(?:a|div)>', page, re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", found).replace("&nbsp;", " ").split())


def test_running_and_waiting_lead_to_these_batches() -> None:
    BatchFactory()
    html = signed_in().get(PAGE).content.decode()
    tiles = re.findall(r'href="/console/batches\?work=(\w+)"><span class="tile-label">(\w+)<', html)
    assert tiles == [("running", "Running"), ("waiting", "Waiting")]


@pytest.fixture(autouse=True)
def _all_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    now = timezone.now()
    ReconcileRun.objects.create(started_at=now)
    workers = [WorkerState("w", "host", 1, ["control", "lanes"], "idle", "", now, now)]
    monkeypatch.setattr(queue, "snapshot", lambda: Snapshot(True, workers, {}))


@pytest.fixture
def batch() -> Batch:
    return BatchFactory(status=Status.COMPLETED)  # type: ignore[no-any-return]


# What needs attention


def test_when_all_is_well_it_says_so_and_what_was_looked_at(batch: Batch) -> None:
    page = shown()
    assert "All is well" in page
    assert "Redis, workers and the reconciler; the upstreams of all models; batches that failed" in page
    assert told(page) == {}


def test_each_thing_that_is_wrong_leads_to_what_is_meant(batch: Batch) -> None:
    now = timezone.now()
    acme = AccountFactory(name="acme")
    BatchFactory(account=acme, status=Status.FAILED, failed_at=now, total=0)
    BatchFactory(account=acme, status=Status.FAILED, failed_at=now, total=0)
    BatchFactory(status=Status.FINALIZING, finalizing_at=now - timedelta(minutes=9))
    BatchFactory(status=Status.COMPLETED, total=100, completed=60, failed=40)
    ServedModelFactory(name="kimi", paused_at=now)
    page = shown()
    assert told(page) == {
        "1 batch has waited for a worker for more than 2 minutes": "/console/batches?attention=stuck",
        "2 batches failed in the last 24 hours": "/console/batches?attention=failed",
        "In 1 batch a tenth of the requests or more failed": "/console/batches?attention=many_errors",
        "1 model is paused": "/console/models?state=paused",
    }
    assert '<bdi class="shown">acme</bdi> <span class="strong">2</span>' in page
    assert page.count("Urgent:") == 1
    assert "All is well" not in page


def test_the_pages_that_it_leads_to_show_exactly_these(batch: Batch) -> None:
    now = timezone.now()
    failed = BatchFactory(status=Status.FAILED, failed_at=now, total=0)
    BatchFactory(status=Status.FAILED, failed_at=now - timedelta(days=3), total=0)
    client = signed_in("viewer")
    page = client.get(told(shown(client))["1 batch failed in the last 24 hours"]).content.decode()
    assert failed.public_id in page
    assert len(set(re.findall(r"/console/batches/(batch_\w+)", page))) == 1


def test_accounts_that_have_used_up_their_budget_are_the_ones_that_are_listed(batch: Batch) -> None:
    month = months.containing(timezone.now())
    for name, percent in (("acme", 100), ("globex", 50)):
        account = AccountFactory(name=name, monthly_budget=Decimal(5))
        BudgetAlert.objects.create(account=account, month=month, percent=percent, budget=Decimal(5), spent=Decimal(5))
    client = signed_in("viewer")
    listed = client.get(told(shown(client))["1 account has used up its budget"]).content.decode()
    assert "acme" in listed
    assert "globex" not in listed
    assert may("view_account").get("/console/accounts?state=budget_used_up").status_code == 400


@pytest.mark.parametrize("kind", Kind)
def test_everything_that_can_be_wrong_has_a_sentence_and_a_page(kind: Kind) -> None:
    client = signed_in("viewer")
    for count in (1, 1234):
        concern = concerns.of(attention.Item(kind, count))
        assert "%" not in concern.sentence
        assert client.get(concern.url).status_code == 200


def test_of_many_names_the_first_are_told_and_how_many_more_there_are(batch: Batch) -> None:
    for number in range(7):
        ServedModelFactory(name=f"m{number}", paused_at=timezone.now())
    page = shown()
    assert "7 models are paused" in page
    assert "and 2 more" in page


def test_redis_away_does_not_take_the_page_away(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "snapshot", lambda: Snapshot(reachable=False))
    assert told(shown()) == {"Redis does not answer: no worker is woken. Nothing is lost.": "/console/workers"}


def may(*codenames: str) -> Client:
    user = User.objects.create_user("pat", password="a long password", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client = Client()
    client.force_login(user)
    return client


def test_money_is_for_those_who_may_see_it(batch: Batch) -> None:
    account = AccountFactory(name="acme", monthly_budget=Decimal(5))
    month = months.containing(timezone.now())
    BudgetAlert.objects.create(account=account, month=month, percent=100, budget=Decimal(5), spent=Decimal(5))
    page = shown(may("view_batch", "view_account"))
    assert "budget" not in page
    assert "Spent" not in page
    page = shown(signed_in("viewer"))
    assert "1 account has used up its budget" in told(page)
    assert "Spent today" in page


def test_what_leads_to_a_page_that_the_viewer_may_not_open_is_left_out(batch: Batch) -> None:
    ServedModelFactory(name="kimi", paused_at=timezone.now())
    page = shown(may("view_batch"))
    assert "paused" not in page
    assert "kimi" not in page


# Numbers


def test_the_tiles_say_what_runs_waits_and_gets_done() -> None:
    lane = LaneFactory()
    ShardFactory(batch=BatchFactory(model=lane.model), model=lane.model, state="running")
    BatchFactory(model=lane.model)
    BatchFactory(status=Status.VALIDATING)
    BatchFactory(status=Status.FINALIZING)
    minute = timezone.now().replace(second=0, microsecond=0) - timedelta(minutes=30)
    LaneMinute.objects.create(model=lane.model, lane=lane, lane_token=1, minute=minute, completed=970, failed=30)
    page = shown()
    assert tile(page, "Running").startswith("1 ")
    assert tile(page, "Waiting") == "2 for a turn; 1 more is ending"
    assert tile(page, "Success") == "97 % of 1,000 requests in the last hour"
    assert tile(page, "Requests/s").startswith("0 ")


def test_a_success_rate_of_nothing_is_no_rate(batch: Batch) -> None:
    assert tile(shown(), "Success") == "— of 0 requests in the last hour"


def test_spend_is_of_today_and_of_the_month(batch: Batch) -> None:
    price: Price = PriceFactory(model_name="x", input_price=Decimal(4), batch_discount=Decimal(1))
    now = timezone.now()
    books.use(AccountFactory(), price, Tokens(input=1_000_000), now=now)
    first = months.beginning(months.containing(now))
    books.use(AccountFactory(), price, Tokens(input=500_000), now=first)
    today = "6.00" if first.date() == now.date() else "4.00"
    assert tile(shown(), "Spent today") == f"{today} USD 6.00 USD this month"


def test_charts_are_of_the_hours_in_the_address(batch: Batch) -> None:
    for hours, steps in ((1, 60), (6, 72), (24, 96)):
        page = shown(query=f"?hours={hours}")
        assert page.count('class="chart-hit"') in (2 * steps, 2 * steps + 2)
        assert f'<a href="/console/?hours={hours}" aria-current="true">' in page
        assert f'data-live="/console/?hours={hours}"' in page


@pytest.mark.parametrize("hours", ["2", "x", "-1", "<script>"])
def test_other_hours_are_an_error_that_is_shown(batch: Batch, hours: str) -> None:
    answer = signed_in("viewer").get(PAGE, {"hours": hours})
    assert answer.status_code == 400
    assert "is none of these. The last hour is shown." in answer.content.decode()
    assert "<script>" not in answer.content.decode()


def test_models_are_shown_with_their_health(batch: Batch) -> None:
    lane = LaneFactory(
        model=ServedModelFactory(name="qwen", max_concurrency=8),
        owner="x",
        limit=8,
        in_flight=5,
        lease_expires_at=timezone.now() + timedelta(minutes=1),
    )
    page = shown()
    row = page.split("Upstreams</h2>")[1].split("qwen")[1]
    assert f"/console/models#model-{lane.model_id}" in page
    assert "Up</span>" in row
    assert "5 of 8 in flight" in row


# The first visit, and the live part


def test_the_first_visit_says_what_to_do_next() -> None:
    page = shown(signed_in())
    for text in (
        "Welcome to Batchdesk",
        "manage.py create_account",
        reverse("admin:billing_app_account_add"),
        reverse("console:models"),
        'base_url="http://testserver/v1"',
        "http://testserver/v1/batches",
    ):
        assert text in page, text
    assert "All is well" not in page
    assert reverse("admin:billing_app_account_add") not in shown(signed_in("viewer", name="vera"))


def test_the_first_visit_tells_what_is_wrong_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "snapshot", lambda: Snapshot(reachable=False))
    page = shown()
    assert "Redis does not answer" in page
    assert "Welcome to Batchdesk" in page


def test_the_first_batch_ends_the_first_visit(batch: Batch) -> None:
    assert "Welcome to Batchdesk" not in shown()


def test_a_live_part_is_asked_for_alone(batch: Batch) -> None:
    answer = signed_in("viewer").get(PAGE, headers={"HX-Request": "true"}).content.decode()
    assert answer.startswith('<div id="overview" class="stack-wide" data-live="/console/?hours=1">')
    assert "<html" not in answer


def test_it_takes_twelve_queries_at_most_whatever_there_is(django_assert_max_num_queries: Any) -> None:
    now = timezone.now()
    for _ in range(4):
        lane = LaneFactory(owner="x", limit=8, lease_expires_at=now + timedelta(minutes=1))
        ShardFactory(batch=BatchFactory(model=lane.model), model=lane.model, state="running")
        BatchFactory(status=Status.FAILED, failed_at=now, total=0)
        BatchFactory(status=Status.FINALIZING, finalizing_at=now - timedelta(hours=1))
        LaneMinute.objects.create(
            model=lane.model, lane=lane, lane_token=1, minute=now.replace(second=0, microsecond=0)
        )
        books.use(AccountFactory(), PriceFactory(), now=now)
    client = signed_in("viewer")
    with django_assert_max_num_queries(12):
        shown(client)


def test_hostile_names_are_harmless(batch: Batch) -> None:
    evil = "<script>alert(1)</script>\u202e"
    BatchFactory(account=AccountFactory(name=evil), status=Status.FAILED, failed_at=timezone.now(), total=0)
    ServedModel.objects.update(name=evil)
    page = shown()
    assert "<script>alert" not in page
    assert "\u202e" not in page
