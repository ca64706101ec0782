"""Killed at every point where something becomes lasting, at its first line and at its last: all is answered once and
billed once."""

import ast
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI

from batches_app.queue import Job
from tests.crash import points
from tests.fake_upstream import FakeUpstream
from tests.stack import ROOT, Stack, assert_whole, chat_input, start_batch, wait_for

AT_ONCE = 4  # points that are armed together
ROUNDS = 4
FIRST, SECOND = 1, 2  # passings
LINES = 6
RETRY = """
from django.utils import timezone; from batches_app import operations; from batches_app.models import Batch
batch, by = Batch.objects.get(public_id="{id}"), {{"actor": "olga", "address": ""}}
draft = operations.draft_retry(batch, "", by=by, now=timezone.now())
operations.start(draft, "again", by=by, now=timezone.now())
"""
SWEEP = """
from datetime import timedelta; from django.utils import timezone; from files_app import retention
retention.sweep_orphans(timezone.now() + timedelta(hours=2)); retention.remove_unheld(1000)
"""


@pytest.fixture
def crashing(tmp_path: Path, upstream: FakeUpstream) -> Iterator[Stack]:
    settings = {"DJANGO_SETTINGS_MODULE": "tests.crash.settings"}
    with Stack(tmp_path, workers=2, **settings) as stack:
        stack.environment["DJANGO_SETTINGS_MODULE"] = "config.settings"  # of commands, which nobody kills here
        stack.serve(upstream.url)
        yield stack


class Work:
    """What tenants do, and how it must end. Each call is repeated by the SDK, so a killed web process is no end."""

    def __init__(self, stack: Stack, upstream: FakeUpstream) -> None:
        self.stack, self.upstream = stack, upstream
        self.client: OpenAI = stack.new_client()

    def do(self) -> None:
        self.upstream.control.set(match="cid:1 ", status=400)
        whole, cancelled = self._batch(), self._batch()
        wait_for(self.client, cancelled, "in_progress", "cancelling", "completed", seconds=60)
        self._cancel(cancelled)
        assert self._end(whole) == "completed"
        self._end(cancelled)
        self._retry(whole)
        self._send_in_parts()
        with suppress(openai.NotFoundError):  # the repetition of a call that did it
            self.client.files.delete(whole.input_file_id)

    def _retry(self, batch: Any) -> None:
        """An operator's, carried out by a worker; who starts it may die as well."""
        self.stack.run("shell", "-v", "0", "-c", RETRY.format(id=batch.id), check=False)

    def _send_in_parts(self) -> None:
        data = chat_input(LINES)
        upload = self.client.uploads.create(
            bytes=len(data), filename="parts.jsonl", mime_type="application/jsonl", purpose="batch"
        )
        halves = [self.client.uploads.parts.create(upload.id, data=half) for half in (data[:100], data[100:])]
        self.client.uploads.complete(upload.id, part_ids=[half.id for half in halves])

    def _batch(self) -> Any:
        return start_batch(self.client, chat_input(LINES))

    def _cancel(self, batch: Any) -> None:
        with suppress(openai.ConflictError):  # it was done first
            self.client.batches.cancel(batch.id)

    def _end(self, batch: Any) -> str:
        ended = wait_for(self.client, batch, seconds=90)
        if ended.request_counts.total:
            assert_whole(self.stack, self.client, ended, [str(n) for n in range(LINES)])
        return str(ended.status)


def not_killed_at(stack: Stack, passings: dict[str, int], work: Work) -> list[str]:
    """Does the work with each point armed for its nth passing, once or more often: how often some are come by is a
    matter of the clock, so that a passing that did not come is armed again, as an earlier one. Returns the points that
    nobody came by in any round."""
    for _ in range(ROUNDS):
        for group in in_groups(sorted(passings)):
            for point in group:
                points.arm(stack.folder, point, let_by=passings[point] - 1)
            work.do()
        missed = points.disarm(stack.folder)
        passings = {point: max(min(passings[point], SECOND), passings[point] // 2) for point in missed}
    return sorted(passings)


@pytest.mark.once
def test_whoever_dies_at_whichever_point_nothing_is_lost_or_doubled(crashing: Stack, upstream: FakeUpstream) -> None:
    work = Work(crashing, upstream)
    work.client.models.list()
    points.passings(crashing.folder)  # the setting up, and the first use of a key: nobody comes by them again
    work.do()
    passings = points.passings(crashing.folder)
    last = {point: times for point, times in passings.items() if times > 1}
    # A few are come by hardly more than once in an installation's life.
    assert len(not_killed_at(crashing, dict.fromkeys(passings, FIRST), work)) < len(passings) / 20
    assert len(not_killed_at(crashing, last, work)) < len(last) / 10
    crashing.shell(SWEEP)
    found = sorted(passings + points.passings(crashing.folder))  # a death leads to some that nobody came by before
    assert len(found) > 70
    assert len(last) > 40
    assert unreached(found) == []
    assert {job.name for job in Job} - {point.split()[-1] for point in found} <= {"PROBE"}  # an operator's


def in_groups(chosen: list[str]) -> Iterator[list[str]]:
    """Neighbours are of one function: apart, so that they do not die one after the other."""
    step = -(-len(chosen) // AT_ONCE)
    return (chosen[start::step] for start in range(step))


# Commits that no tenant's work comes by, and where they are proved instead
ELSEWHERE = {
    "batches_app.estimates._refusal": "writes nothing: it is rolled back",
    "batches_app.estimates.estimate": "writes nothing: it is rolled back",
    "batches_app.lifecycle.expire": "tests/journeys/test_batches.py",
    "batches_app.lifecycle.fail": "tests/journeys/test_batches.py",
    "billing_app.audited.delete_queryset": "an administrator's page",
    "billing_app.closing._close": "of months that are over: tests/billing_app/test_closing.py",
    "billing_app.ledger.adjust": "an administrator's: tests/billing_app/test_admin_money.py",
    "billing_app.ledger.set_prepaid": "an administrator's: tests/billing_app/test_admin_money.py",
    "billing_app.ledger.top_up": "an administrator's: tests/billing_app/test_admin_money.py",
    "billing_app.proof.prove_books": "reads alone",
    "billing_app.quotas.use": "within that of who names the file",
    "billing_app.quotas.widen": "within that of who adds a part",
    "files_app.proof.prove_storage": "reads alone",
    "batches_app.operations.start": "tests/journeys/test_operations.py",
    "batches_app.operations.abort": "tests/journeys/test_operations.py",
    "batches_app.operations._cancel_targets": "tests/journeys/test_operations.py",
    "batches_app.operations._fail": "tests/batches_app/test_operations.py",
    "batches_app.operations._hand_over": "tests/batches_app/test_operations.py",
    "batches_app.proof._prove_running": "reads alone",
    "batches_app.retrying._check_admission": "writes nothing: it is rolled back",
    "batches_app.routing.ask_probe": "tests/journeys/test_operations.py",
    "batches_app.routing.resume": "tests/journeys/test_operations.py",
    "batches_app.routing.serve": "an administrator's command",
    "batches_app.traffic.sum_up": "of minutes that are over: tests/batches_app/test_traffic.py",
    "files_app.retention.abandon_upload": "tests/files_app/test_assembly.py",
    "files_app.retention.hold": "within lifecycle.create",
}
OPERATORS = {"console", "admin", "management", "migrations", "seeding"}  # nobody's work hangs on these


def unreached(found: list[str]) -> list[str]:
    reached = {point.split()[-1] for point in found}
    return sorted(name for name in committing() if name not in ELSEWHERE and name not in reached)


def committing() -> Iterator[str]:
    for app in points.OURS:
        for path in sorted((ROOT / app).rglob("*.py")):
            if not OPERATORS & set(path.parts):
                module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
                yield from (f"{module}.{name}" for name in _committing_in(ast.parse(path.read_text())))


def _committing_in(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and any(_commits(inner) for inner in ast.walk(node)):
            yield node.name


def _commits(node: ast.AST) -> bool:
    """As a block, or as a decorator."""
    return isinstance(node, ast.Attribute) and ast.unparse(node) == "transaction.atomic"
