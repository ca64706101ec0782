"""RQ's own dashboard (django_rq), for administrators alone: to look into a queue that the console's pages do not
explain. What is done there is audited; its JSON and its metrics are no more open than its pages."""

from collections.abc import Callable
from functools import wraps
from http import HTTPStatus
from typing import Any

from django.contrib import messages
from django.core.exceptions import ImproperlyConfigured
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.http.response import HttpResponseRedirectBase
from django.shortcuts import redirect, render
from django.urls import path
from django.utils.http import url_has_allowed_host_and_scheme
from django_rq import stats_views
from django_rq.urls import get_admin_urlpatterns
from redis import RedisError
from rq.exceptions import InvalidJobOperation, NoSuchJobError

from billing_app import audit
from config.console.access import page

MAY_USE = "batches_app.use_rq"
CHANGING = frozenset({"actions", "clear_queue", "delete_failed_jobs", "delete_job", "enqueue_job", "requeue_all"}) | {
    "requeue_job_view",
    "stop_job",
}
ASKING = "confirm_action"  # takes a POST, and changes nothing yet
BROKEN = "worker_details"  # reads jobs as pickles, which ours are not

View = Callable[..., HttpResponseBase]


def _for_administrators(view: View) -> View:
    takes_forms = view.__name__ in CHANGING | {ASKING}
    return page(MAY_USE, methods=["GET", "HEAD", "POST"] if takes_forms else ["GET", "HEAD"])(_mended(view))


def _mended(view: View) -> View:
    @wraps(view)
    def mended(request: HttpRequest, **kwargs: Any) -> HttpResponseBase:
        try:
            answer = view(request, **kwargs)
        except RedisError:
            return render(request, "console/redis_away.html", status=HTTPStatus.SERVICE_UNAVAILABLE)
        except InvalidJobOperation:
            messages.error(request, "This was not done: the job's state does not allow it.")
            return redirect("django_rq:home")
        except (NoSuchJobError, IndexError, ImproperlyConfigured) as error:
            # A job that has ended meanwhile, a queue that is not there, a scheduler that is not installed.
            raise Http404 from error
        if request.method == "POST" and view.__name__ in CHANGING:
            _record(request, view.__name__, kwargs)
        return _kept_here(request, answer)

    return mended


def _record(request: HttpRequest, what: str, kwargs: dict[str, Any]) -> None:
    """After it has happened: Redis takes no part in a transaction."""
    chosen = {name: request.POST.getlist(name) for name in ("action", "job_ids") if name in request.POST}
    facts = {name: (None, value) for name, value in (kwargs | chosen).items()}
    audit.record(**audit.by(request), action=f"rq.{what}", target="RQ", changes=facts)


def _kept_here(request: HttpRequest, answer: HttpResponseBase) -> HttpResponseBase:
    """Two of its pages go back to where their form, or the browser, says that one came from."""
    if not isinstance(answer, HttpResponseRedirectBase):
        return answer
    ours = url_has_allowed_host_and_scheme(answer.url, {request.get_host()}, request.is_secure())
    return answer if ours else redirect("django_rq:home")


@page(MAY_USE)
def _workers(request: HttpRequest, **kwargs: Any) -> HttpResponse:
    return redirect("console:workers")


urlpatterns = [
    *(one for one in get_admin_urlpatterns(view_wrapper=_for_administrators) if one.name != BROKEN),
    # The rest is there because its pages link to it by name.
    path("workers/<int:queue_index>/<str:key>/", _workers, name=BROKEN),
    path("stats.json", _for_administrators(stats_views.stats_json), name="home_json"),
    path("metrics", _for_administrators(stats_views.prometheus_metrics), name="metrics"),
]
