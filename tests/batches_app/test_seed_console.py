"""A made-up installation holds together like a real one."""

from collections.abc import Iterator
from datetime import UTC, datetime
from io import StringIO
from itertools import islice, pairwise
from random import Random
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import transaction
from django.db.models import Count, Sum

from batches_app import traffic
from batches_app.models import Batch, ErrorGroup, Lane, Operation, ServedModel, Shard
from batches_app.proof import prove_holds
from batches_app.seeding import cast, rhythm
from batches_app.seeding.ended import Storyteller
from batches_app.states import TERMINAL, Status
from billing_app import ledger
from billing_app.models import Account, AuditEntry, Balance, DailyUsage, LedgerEntry
from billing_app.proof import prove_books
from files_app import blobs
from files_app.models import StoredFile
from files_app.proof import prove_storage

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)
COUNT = 700


def seed(*options: str) -> str:
    out = StringIO()
    call_command("seed_console", *options, stdout=out)
    return out.getvalue()


@pytest.fixture(scope="module")
def said(django_db_setup: None, django_db_blocker: Any) -> Iterator[str]:
    """Once for all tests of this module, which only look at it."""
    with django_db_blocker.unblock(), transaction.atomic():
        yield seed(f"--batches={COUNT}", "--accounts=12")
        transaction.set_rollback(True)


@pytest.fixture(autouse=True)
def _seeded(said: str) -> None: ...


def test_there_are_as_many_as_were_asked_for_in_every_state() -> None:
    assert Batch.objects.count() == COUNT
    assert set(Batch.objects.values_list("status", flat=True)) == set(Status)
    # The one that is there anyway is not counted in.
    assert ServedModel.objects.exclude(upstream_url="builtin").count() == len(cast.PLANS)
    assert Account.objects.count() == 12


def test_a_database_with_batches_is_left_alone() -> None:
    with pytest.raises(CommandError, match="has batches"):
        seed("--batches=10")
    assert Batch.objects.count() == COUNT


@pytest.mark.parametrize("number", ["0", "-1", "x", "99999999"])
def test_a_number_that_cannot_be_is_refused(number: str) -> None:
    with pytest.raises(CommandError, match="must be a number from 1 to"):
        seed(f"--batches={number}")


def test_ids_grow_with_time() -> None:
    known = Batch.objects.exclude(parent__endpoint="/v1/chat/ds-test")
    moments = list(known.order_by("pk").values_list("created_at", flat=True))
    assert all(later >= earlier for earlier, later in pairwise(moments))


def test_the_books_agree() -> None:
    assert list(prove_books()) == []
    assert list(prove_storage()) == []
    assert list(prove_holds()) == []
    assert Balance.objects.filter(is_prepaid=True).exists()


def test_every_batch_was_charged_what_it_used() -> None:
    wrong = [
        batch.pk
        for batch in Batch.objects.select_related("price")
        if (bill := ledger.bill(batch.public_id)).charged != batch.cost or bill.tokens != batch.tokens
    ]
    assert wrong == []


def test_days_add_up_to_the_entries() -> None:
    names = ("requests", "input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens")
    sums = {name: Sum(name) for name in names}
    assert DailyUsage.objects.aggregate(**sums) == LedgerEntry.objects.filter(kind="usage").aggregate(**sums)


def test_groups_of_errors_add_up_to_the_error_lines() -> None:
    counted = dict(ErrorGroup.objects.order_by().values_list("batch").annotate(Sum("count")))
    for batch in Batch.objects.all():
        ended = batch.status in TERMINAL
        assert counted.get(batch.pk, 0) == (batch.total - batch.completed if ended else batch.failed)


def test_ended_batches_ended_after_they_began_and_before_now() -> None:
    for batch in Batch.objects.filter(status__in=TERMINAL):
        end = getattr(batch, f"{batch.status}_at")
        stamps = [batch.created_at, batch.in_progress_at, batch.cancelling_at or batch.finalizing_at, end]
        known = [stamp for stamp in stamps if stamp is not None]
        assert known == sorted(known), batch.pk


def test_batches_under_way_have_shards_whose_bytes_are_there() -> None:
    shards = Shard.objects.filter(batch__status=Status.IN_PROGRESS).select_related("batch__source")
    assert shards.exclude(state=Shard.State.DONE).exists()
    for shard in shards:
        assert shard.batch.source is not None
        assert len(blobs.read_range(shard.batch.source.blob, shard.offset, shard.size)) == shard.size
    stuck = Batch.objects.filter(status=Status.IN_PROGRESS).annotate(n=Count("shards")).filter(n=0)
    assert list(stuck) == []


def test_the_test_models_batches_are_real_and_one_is_a_retry() -> None:
    done = Batch.objects.filter(status=Status.COMPLETED, endpoint="/v1/chat/ds-test")
    assert done.count() == 13
    for batch in done:
        file = StoredFile.objects.get(public_id=batch.error_file_id)
        with blobs.read(file.blob) as lines:
            assert len(lines.readlines()) == batch.failed
    retry = done.get(parent__isnull=False)
    assert retry.parent is not None
    assert retry.total == retry.parent.failed
    assert Operation.objects.get(kind=Operation.Kind.RETRY).result == retry


def test_lanes_tell_what_holds_them_back() -> None:
    states = {lane.model.name: lane for lane in Lane.objects.select_related("model")}
    assert states[cast.DOWN].paused_since is not None
    assert states[cast.THROTTLED].pause_reason
    assert states[cast.PAUSED].model.paused_at is not None
    assert states[cast.PAUSED].lease_expires_at is None


def test_charts_have_a_day_of_traffic() -> None:
    newest = Batch.objects.latest("created_at").created_at
    minutes = traffic.per_minute(newest - 24 * 60 * traffic.MINUTE, newest)
    assert sum(minute.completed for minute in minutes) > 0
    assert all(sum(minute.latency) <= minute.answers for minute in minutes)


def test_operators_of_all_roles_can_sign_in_with_the_password_that_is_shown(said: str) -> None:
    password = said.rsplit(": ", 1)[1].strip()
    for role, name in cast.OPERATORS.items():
        user = User.objects.get(username=name)
        assert user.check_password(password)
        assert [group.name for group in user.groups.all()] == [role]
    assert AuditEntry.objects.filter(actor="olga").exists()


def told(number: int) -> list[Any]:
    rng = Random(number)
    tenants = tuple(
        cast.Tenant(account, tuple(account.keys.values_list("pk", flat=True)), _served(), 0.2)
        for account in Account.objects.all()
    )
    storyteller = Storyteller(cast.Cast(tenants, tuple(range(1, len(tenants) + 1)), _served()), rng, NOW)
    stories = [storyteller.tell(at) for at in islice(rhythm.moments(500, rng, now=NOW), 300)]
    return [(story.created, story.ended, story.status, story.total, story.failures, story.tokens) for story in stories]


def _served() -> tuple[cast.Served, ...]:
    batch = Batch.objects.filter(price__isnull=False, model__isnull=False).select_related("model", "price").latest("pk")
    assert batch.model
    assert batch.price
    return (cast.Served(batch.model, batch.endpoint, batch.price, None, NOW, 100, 50),)


def test_the_same_seed_tells_the_same_story() -> None:
    assert told(1) == told(1)
    assert told(1) != told(2)
