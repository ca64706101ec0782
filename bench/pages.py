"""The console's pages, asked for within one process, in a shell of the installation: `manage.py shell -c …`.

from bench import pages
pages.measure()                                    # JSON: of each page its status, queries and seconds
pages.explain("/console/batches?status=failed")    # for who mends a slow one: what its queries took, and why
"""

import gc
import html
import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import psutil
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.urls import URLPattern, reverse
from django.utils import timezone

from batches_app.models import Batch, ErrorGroup, Lane, Operation, ServedModel
from batches_app.models.routing import TEST_ENDPOINT
from batches_app.seeding.cast import OPERATORS
from batches_app.states import Status
from billing_app.models import Account, Balance
from config.roomy import roomy
from files_app.models import StoredFile
from tests import routes

CALLS, WARM = 40, 2
LIVE = re.compile(r'data-live="([^"]+)"')


@dataclass(slots=True)
class Page:
    name: str
    status: int = 0
    queries: int = 0
    cpu: float = 0  # seconds a call, of this process and of the database's: what others do on the machine is not in it
    seconds: list[float] = field(default_factory=list)


class Counter:
    """Of queries, as an execute wrapper."""

    def __init__(self) -> None:
        self.queries: list[tuple[str, Any, float]] = []

    def __call__(self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        start = time.perf_counter()
        try:
            return execute(sql, params, many, context)
        finally:
            self.queries.append((sql, params, time.perf_counter() - start))


class Visitor:
    def __init__(self) -> None:
        self._client = Client(SERVER_NAME="localhost", raise_request_exception=False)
        operator = User.objects.get(username=OPERATORS["administrator"])
        self._client.force_login(operator, "django.contrib.auth.backends.ModelBackend")
        self._seen: set[str] = set()

    def visit(self, address: str, calls: int) -> Iterator[Page]:
        """The page, and its live parts that no page before had."""
        page, text = self._measure(address, {}, calls)
        yield page
        for live in LIVE.findall(text):
            part = html.unescape(live)
            if part not in self._seen:
                self._seen.add(part)
                yield self._measure(part, {"HX-Request": "true"}, calls)[0]

    @roomy  # as the web's requests are
    def _measure(self, address: str, headers: dict[str, str], calls: int) -> tuple[Page, str]:
        page = Page(f"{address.removeprefix('/console')}{' live' if headers else ''}")
        text, before = "", 0.0
        for number in range(WARM + calls):
            if number == WARM:
                before = cpu_seconds()
            counter, start = Counter(), time.perf_counter()
            with connection.execute_wrapper(counter):
                response = self._client.get(address, headers=headers)
            seconds, text = time.perf_counter() - start, response.content.decode()
            page.status, page.queries = response.status_code, max(page.queries, len(counter.queries))
            if number >= WARM:  # the first ones compile templates and fill caches
                page.seconds.append(seconds)
        page.cpu = (cpu_seconds() - before) / calls
        return page, text

    def explain(self, address: str) -> Iterator[str]:
        self._client.get(address)
        counter = Counter()
        with connection.execute_wrapper(counter):
            self._client.get(address)
        for sql, params, seconds in counter.queries:
            yield f"\n-- {seconds * 1000:.1f} ms\n{sql}\n-- {params}"
            if sql.startswith("SELECT"):
                yield from _plan(sql, params)


def cpu_seconds() -> float:
    own = time.process_time()
    if connection.vendor != "postgresql":
        return own
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        backend = cursor.fetchone()[0]
    try:
        return own + sum(psutil.Process(backend).cpu_times()[:2])
    except psutil.Error:  # on another machine
        return own


def _plan(sql: str, params: Any) -> list[str]:
    verb = "EXPLAIN (ANALYZE, BUFFERS)" if connection.vendor == "postgresql" else "EXPLAIN QUERY PLAN"
    with connection.cursor() as cursor:
        cursor.execute(f"{verb} {sql}", params)
        return [f"   {row[-1]}" for row in cursor.fetchall()]


def addresses() -> Iterator[str]:
    """Every page that there is: of a new route whose arguments are not known here, it is an error."""
    for route in routes.pages():
        for values in _arguments(route) if route.pattern.converters else [()]:
            yield reverse(f"console:{route.name}", args=values)
    for filters in lists():
        yield f"{reverse('console:batches')}?{urlencode(filters)}"


def _arguments(route: URLPattern) -> Iterator[tuple[Any, ...]]:
    try:
        return SAMPLES[route.name or ""]()
    except KeyError:
        raise SystemExit(f"bench/pages.py has no sample for the route {route.name!r}.") from None


def _batches() -> Iterator[tuple[str]]:
    """One of every state, and the one with the most failures."""
    for status in Status:
        yield (Batch.objects.filter(status=status).values_list("public_id", flat=True)[0],)
    yield (ErrorGroup.objects.order_by("-count").values_list("batch__public_id", flat=True)[0],)


def _real_batch() -> Batch:
    return Batch.objects.filter(endpoint=TEST_ENDPOINT, parent=None, failed__gt=0)[0]


SAMPLES: dict[str, Callable[[], Iterator[tuple[Any, ...]]]] = {
    "batch": _batches,
    "lines": lambda: iter([(_real_batch().public_id,)]),
    "line": lambda: iter([(_real_batch().public_id, "e0"), (_real_batch().public_id, "o0")]),
    "operation": lambda: ((pk,) for pk in Operation.objects.order_by("-total").values_list("pk", flat=True)[:1]),
    "account": lambda: iter([(_largest_account().pk,), (Balance.objects.filter(is_prepaid=True)[0].pk,)]),
    "model": lambda: iter([(ServedModel.objects.all()[0].pk,)]),
    "delete_file": lambda: iter([(_real_batch().input_file_id,)]),
    "file": lambda: ((public_id,) for public_id in StoredFile.objects.values_list("public_id", flat=True)[:1]),
}


def lists() -> Iterator[dict[str, str]]:
    """Of batches, by every filter, by what is often chosen together, and by searches that find much, little and
    nothing."""
    account, batch = _largest_account().name, Batch.objects.exclude(name="")[1_000]
    yield from ({"status": status} for status in ("under_way", *map(str, Status)))
    yield from ({"account": account}, {"account": account, "status": "failed"}, {"model": "bge-m3"})
    yield from ({"endpoint": "/v1/embeddings"}, {"has_errors": "yes"}, {"has_errors": "no"}, {"created_from": "24h"})
    yield from ({"work": "running"}, {"work": "waiting"})
    yield from ({"created_to": "30d"}, {"status": "under_way", "deadline_before": "1h"}, {"deadline_after": "2d"})
    yield from ({"q": text} for text in (batch.public_id, batch.public_id[:14], batch.name, batch.input_file_id))
    yield from ({"q": text} for text in ("summaries", "商品描述", "zz", "nothing like it"))
    yield from ({"has_errors": "yes", "account": account, "model": "bge-m3"},)
    yield from ({"custom_id": custom_id} for custom_id in ("row-17", "in no file"))
    yield from ({"attention": what} for what in ("late", "stuck", "failed", "many_errors"))
    yield from ({"sort": sort} for sort in ("deadline", "-deadline", "created", "-requests", "-failed", "failed"))
    yield from ({"sort": "deadline", "account": account}, {"sort": "deadline", "status": "under_way"})


def _largest_account() -> Account:
    return Account.objects.get(name=Account.objects.order_by("pk").filter(batches__isnull=False)[:1].get().name)


def measure(calls: int = CALLS) -> None:
    # Nobody works here; the lanes are to look as if.
    Lane.objects.exclude(owner="").update(lease_expires_at=timezone.now() + timedelta(hours=1))
    visitor = Visitor()
    gc.collect()
    gc.freeze()  # as config.wsgi does
    pages = [page for address in addresses() for page in visitor.visit(address, calls)]
    print(json.dumps([asdict(page) for page in pages]))


def explain(address: str) -> None:
    print("\n".join(Visitor().explain(address)))
