"""RQ's dashboard: for administrators alone, audited, and with nothing in it that the browser refuses."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import rq
from django.test import Client
from redis import Redis
from rq.exceptions import NoSuchJobError
from rq.registry import FailedJobRegistry
from rq.results import Result
from rq.serializers import JSONSerializer

from batches_app import queue
from batches_app.console import rq_dashboard
from billing_app.models import AuditEntry
from tests import private_redis
from tests.operators import signed_in

pytestmark = pytest.mark.django_db
HOME = "/console/rq/"
LANES = f"{HOME}queues/1/"
REFUSED = re.compile(r"<style|<script(?![^>]*\bsrc=)|\sstyle=|\son\w+=", re.IGNORECASE)


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with private_redis.running(tmp_path_factory.mktemp("r")) as url:
        yield url


@pytest.fixture
def lanes(redis_url: str, settings: Any) -> Iterator[rq.Queue]:
    settings.RQ_QUEUES = {name: config | {"URL": redis_url} for name, config in settings.RQ_QUEUES.items()}
    with Redis.from_url(redis_url) as client:
        yield rq.Queue("lanes", connection=client, serializer=JSONSerializer)
        client.flushall()


def waiting(lanes: rq.Queue, lane: int = 3) -> rq.job.Job:
    return lanes.enqueue_call(queue.Job.RUN_LANE.value, kwargs={"lane_id": lane}, job_id=f"run_lane-{lane}-1")


def failed(lanes: rq.Queue) -> rq.job.Job:
    """As a worker leaves it behind."""
    job = waiting(lanes)
    lanes.remove(job)
    job.set_status(rq.job.JobStatus.FAILED)
    FailedJobRegistry(queue=lanes).add(job, exc_string="Traceback")
    Result.create_failure(job, 60, exc_string="Traceback")
    return job


def audited() -> list[tuple[str, str, dict[str, Any]]]:
    return list(AuditEntry.objects.order_by("pk").values_list("actor", "action", "changes"))


def test_an_administrator_sees_the_queues_and_what_waits_in_them(lanes: rq.Queue) -> None:
    job, client = waiting(lanes), signed_in("administrator")
    assert ">lanes" in re.sub(r"\s", "", client.get(HOME).content.decode())
    assert job.id in client.get(LANES).content.decode()
    assert "lane_id" in client.get(f"{LANES}{job.id}/").content.decode()


def test_no_page_has_script_or_style_of_its_own(lanes: rq.Queue) -> None:
    """The Content-Security-Policy refuses it. What the pages need of it is in files."""
    waiting(lanes, 4)
    job, client = failed(lanes), signed_in()
    lists = ("", "details/", "started/", "deferred/", "finished/", "failed/", "scheduled/")
    result = f"{job.id}/results/{job.results()[0].id}/"
    asking = ("empty/", "requeue-all/", "failed/clear/", f"{job.id}/", f"{job.id}/delete/", result)
    for path in (HOME, f"{HOME}workers/1/", *(LANES + page for page in (*lists, *asking))):
        page = client.get(path)
        assert page.status_code == 200, path
        assert REFUSED.findall(_without_shortcuts(page.content.decode())) == [], path


def _without_shortcuts(page: str) -> str:
    """A row of a job's results opens by a click anywhere; where that is refused, by the link at its end."""
    return re.sub(r' onclick="(window\.location=|event\.stopPropagation)[^"]*"', "", page)


def test_what_can_be_chosen_can_be_chosen_all_at_once(lanes: rq.Queue) -> None:
    waiting(lanes)
    page = signed_in().get(LANES).content.decode()
    assert 'src="/static/admin/js/actions.js"' in page
    assert 'src="/admin/jsi18n/"' in page
    assert 'data-actions-icnt="1"' in page


@pytest.mark.parametrize("role", ["viewer", "operator", "billing"])
def test_others_neither_see_nor_empty_a_queue(lanes: rq.Queue, role: str) -> None:
    waiting(lanes)
    client = signed_in(role)
    for path in (HOME, LANES, f"{HOME}stats.json", f"{HOME}metrics"):
        assert client.get(path).status_code == 403
    assert client.post(f"{LANES}empty/").status_code == 403
    assert client.post(f"{HOME}queues/actions/1/", {"action": "delete", "job_ids": "run_lane-3-1"}).status_code == 403
    assert lanes.count == 1
    assert audited() == []


def test_nothing_of_it_is_anywhere_else() -> None:
    client = signed_in()
    for path in ("/django-rq/", "/admin/django_rq/dashboard/", "/admin/django_rq/", "/rq/", f"{HOME}stats.json/x"):
        assert client.get(path).status_code == 404, path


def test_a_token_opens_neither_the_json_nor_the_metrics(lanes: rq.Queue, settings: Any) -> None:
    settings.RQ_API_TOKEN = "t0ken"
    for path in ("stats.json", "stats.json/t0ken", "metrics"):
        answer = Client(headers={"Authorization": "Bearer t0ken"}).get(HOME + path)
        assert answer.status_code in (302, 404), path
    assert signed_in().get(f"{HOME}stats.json").json()["queues"][1]["name"] == "lanes"
    assert b"rq_" in signed_in().get(f"{HOME}metrics").content


def test_emptying_a_queue_is_audited(lanes: rq.Queue) -> None:
    waiting(lanes)
    client = signed_in("administrator")
    assert client.get(f"{LANES}empty/").status_code == 200
    assert lanes.count == 1
    client.post(f"{LANES}empty/")
    assert lanes.count == 0
    assert audited() == [("olga", "rq.clear_queue", {"queue_index": [None, 1]})]


def test_what_is_done_to_chosen_jobs_is_audited_with_their_ids(lanes: rq.Queue) -> None:
    job, client = waiting(lanes), signed_in()
    asked = client.post(f"{HOME}queues/confirm-action/1/", {"action": "delete", "_selected_action": job.id})
    assert asked.status_code == 200
    assert audited() == []
    client.post(f"{HOME}queues/actions/1/", {"action": "delete", "job_ids": job.id})
    with pytest.raises(NoSuchJobError):
        rq.job.Job.fetch(job.id, connection=lanes.connection)
    changes = {"queue_index": [None, 1], "action": [None, ["delete"]], "job_ids": [None, [job.id]]}
    assert audited() == [("olga", "rq.actions", changes)]


def test_what_changes_something_is_known_by_name() -> None:
    """A page that a newer django-rq adds takes no form until it is named."""
    names = {one.callback.__name__ for one in rq_dashboard.urlpatterns}
    assert {*rq_dashboard.CHANGING, rq_dashboard.ASKING} <= names


def test_a_form_goes_back_to_this_host_only(lanes: rq.Queue) -> None:
    job, client = waiting(lanes), signed_in()
    chosen = {"action": "delete", "job_ids": job.id, "next_url": "https://evil.example/"}
    assert client.post(f"{HOME}queues/actions/1/", chosen)["Location"] == HOME
    back = client.get(f"{HOME}queues/confirm-action/1/", headers={"Referer": "https://evil.example/"})
    assert back["Location"] == HOME


@pytest.mark.parametrize(
    "path",
    [
        "queues/9/",
        "queues/9/details/",
        "queues/1/no-such-job/",
        "queues/1/no-such-job/delete/",
        "workers/9/",
        "schedulers/0/",
        "cron-schedulers/0/x/",
    ],
)
def test_what_is_not_there_is_not_found(lanes: rq.Queue, path: str) -> None:
    assert signed_in().get(HOME + path).status_code == 404


def test_a_job_whose_state_does_not_allow_it_is_said_to_be_so(lanes: rq.Queue) -> None:
    job = waiting(lanes)
    answer = signed_in().post(f"{LANES}{job.id}/requeue/", follow=True)
    assert "state does not allow it" in answer.content.decode()
    assert audited() == []


def test_a_worker_s_page_is_the_console_s_own(lanes: rq.Queue) -> None:
    """The dashboard's reads jobs as pickles: it fails for ours, and would run what somebody put into Redis."""
    assert signed_in().get(f"{HOME}workers/1/rq:worker:x/")["Location"] == "/console/workers"


def test_without_redis_it_says_so(settings: Any) -> None:
    for path in (HOME, LANES, f"{LANES}details/", f"{HOME}workers/0/", f"{HOME}stats.json"):
        page = signed_in().get(path)
        assert page.status_code == 503, path
        assert "Redis does not answer" in page.content.decode()
