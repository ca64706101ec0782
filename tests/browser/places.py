"""What there is to see in the console: each page, at an address where there is something on it, and its states."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from secrets import token_hex
from typing import Any

from playwright.sync_api import Page, Response

from tests.browser.installation import Installation
from tests.browser.visitor import Visitor


@dataclass(frozen=True)
class Place:
    """`then`: what is done there before it is looked at, which may lead to another answer."""

    path: str
    role: str = "administrator"
    status: int = 200
    then: Callable[[Page], Response | None] | None = None

    def seen_by(self, visitor: Visitor, **look: Any) -> Page:
        page = visitor(role=self.role, status=self.status, **look)
        answer = page.goto(f"/console/{self.path}")
        if self.then:
            answer = self.then(page) or answer
        assert answer is not None, self
        assert answer.status == self.status, self
        return page


def _unfold_filters(page: Page) -> None:
    page.locator(".filters-more > summary").click()


def _select_rows(page: Page) -> None:
    for box in page.locator("input[data-row]").all()[:3]:
        box.check()


def _unfold_a_pause(page: Page) -> None:
    page.locator(".disclosure > summary").first.click()


def _open_the_menu(page: Page) -> None:
    page.locator(".account-menu > summary").click()


def _press_a_question_mark(page: Page) -> None:
    page.keyboard.press("?")


def _give_no_reason(page: Page) -> Response | None:
    page.locator("#reason").fill(" ")
    with page.expect_navigation() as answer:
        page.locator("#reason").press("Enter")
    return answer.value


def _sign_in(page: Page, name: str) -> Response | None:
    page.locator("#id_username").fill(name)
    page.locator("#id_password").fill("a guess")
    with page.expect_navigation() as answer:
        page.locator("#id_password").press("Enter")
    return answer.value


def _sign_in_wrongly(page: Page) -> Response | None:
    return _sign_in(page, f"guest-{token_hex(2)}")  # another one each time: none is locked out


def _sign_in_too_often(page: Page) -> Response | None:
    while (answer := _sign_in(page, "nobody")) is not None and answer.ok:
        pass
    return answer


def _sign_in_without_cookies(page: Page) -> Response | None:
    page.context.clear_cookies()
    return _sign_in(page, "nobody")


_SAMPLES = """
from datetime import timedelta
from urllib.parse import quote
from django.utils import timezone
from batches_app import operations
from batches_app.models import Batch, Operation, ServedModel
from billing_app.models import Balance
from files_app.models import StoredFile
def newest(**facts): return Batch.objects.filter(**facts).latest("pk").public_id
running = Batch.objects.filter(status="in_progress")
busy = running.filter(model__paused_at=None, model__lanes__in_flight__gt=0, shards__state="running")
real = Batch.objects.filter(endpoint="/v1/chat/ds-test", parent=None, failed__gt=0).latest("pk")
spender = Batch.objects.filter(completed__gt=0).latest("pk").account

by, now = {"actor": "olga", "address": "192.0.2.7"}, timezone.now()
model = running.earliest("pk").model_name
def cancelling():
    batches = Batch.objects.filter(model_name=model)
    return operations.draft_cancel(batches, by=by, query=f"model={quote(model)}", now=now)
# Somebody holds it and does nothing, so that it goes on for as long as it is looked at.
going = cancelling()
half = going.total // 2
held = {"started_at": now, "lease_expires_at": now + timedelta(hours=1), "position": half, "changed": half}
Operation.objects.filter(pk=going.pk).update(state="running", reason="the upstream answers nonsense", **held)

print(json.dumps({
    "real": real.public_id,
    "input": real.input_file_id,
    "retry": newest(parent__isnull=False),
    "running": (busy if busy.exists() else running).order_by("-failed")[0].public_id,
    "failed": newest(status="failed"),
    "expired": newest(status="expired"),
    "account": Balance.objects.filter(is_prepaid=True).first().account_id,
    "spender": quote(spender.name),
    "today": f"{now:%Y-%m-%d}",
    "model": ServedModel.objects.earliest("pk").pk,
    "operation": Operation.objects.filter(kind="cancel", state="done").earliest("pk").pk,
    "retrying": Operation.objects.filter(kind="retry", state="done").latest("pk").pk,
    "going": going.pk,
    "draft": cancelling().pk,
    "retry_draft": operations.draft_retry(real, "", by=by, now=now).pk,
}))
"""
# Of a seeded installation. By the names of their routes, with what is added where one is shown more than once.
_PAGES = {
    "overview": "",
    "batches": "batches",
    "batches filtered": "batches?status=completed&has_errors=yes&sort=deadline",
    "batches none": "batches?q=nothing+like+it",
    "batches searched": "batches?custom_id=row-1",
    "batch": "batches/{running}",
    "batch done": "batches/{real}",
    "batch failed": "batches/{failed}",
    "batch expired": "batches/{expired}",
    "batch retry": "batches/{retry}",
    "lines": "batches/{real}/lines",
    "lines all": "batches/{real}/lines?kind=all",
    "lines running": "batches/{running}/lines?kind=succeeded",
    "line": "batches/{real}/lines/e0",
    "operations": "operations",
    "operation": "operations/{operation}",
    "operation retry": "operations/{retrying}",
    "operation running": "operations/{going}",
    "operation to cancel": "operations/{draft}",
    "operation to retry": "operations/{retry_draft}",
    "files": "files",
    "file": "files/{input}",
    "file delete": "files/{input}/delete",
    "accounts": "accounts",
    "account": "accounts/{account}",
    "models": "models",
    "usage": "usage",
    "usage account": "usage?account={spender}",
    "usage day": "usage?from={today}&to={today}",
    "workers": "workers",
    "audit": "audit",
}
_STATES = {
    "batches filters": Place("batches", then=_unfold_filters),
    "batches selected": Place("batches", then=_select_rows),
    "batches invalid": Place("batches?status=nonsense", status=400),
    "operation without reason": Place("operations/{draft}", status=400, then=_give_no_reason),
    "models pause": Place("models", then=_unfold_a_pause),
    "usage invalid": Place("usage?from=2026-02-01&to=2026-01-01", status=400),
    "shortcuts": Place("batches?q=nothing+like+it", then=_press_a_question_mark),
    "menu": Place("batches?q=nothing+like+it", then=_open_the_menu),
    "not found": Place("batches/batch_of_nobody", status=404),
    "forbidden": Place("batches/{real}/lines", role="viewer", status=403),
    "wrong method": Place("operations/cancel", status=405),
    "login": Place("login", role=""),
    "login wrong": Place("login", role="", then=_sign_in_wrongly),
    "login locked": Place("login", role="", status=429, then=_sign_in_too_often),
    "login out of date": Place("login", role="", status=403, then=_sign_in_without_cookies),
}
PLACES = {name: Place(path) for name, path in _PAGES.items()} | _STATES
# Of an installation in which nothing has happened yet.
FIRST_PLACES = {
    f"{name} first": PLACES[name]
    for name in ("overview", "batches", "operations", "files", "accounts", "usage", "audit")
}


def places(installation: Installation) -> dict[str, Place]:
    samples = installation.ask(_SAMPLES)
    return {name: replace(place, path=place.path.format(**samples)) for name, place in PLACES.items()}
