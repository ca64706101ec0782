"""Who did what: audit entries, and what operators did to many batches."""

from datetime import datetime, timedelta
from random import Random

from batches_app import operations
from batches_app.models import Batch, Operation
from batches_app.models.routing import TEST_ENDPOINT
from batches_app.seeding.cast import OPERATORS, Cast
from batches_app.seeding.loading import Row, Table
from batches_app.states import Status
from billing_app.models import AuditEntry

ENTRIES, OPERATIONS = 900, 24
COLUMNS = ("created_at", "actor", "address", "action", "target", "account", "changes", "reason")
BY_OPERATOR = {"actor": OPERATORS["operator"], "address": "10.4.0.17"}
REASONS = (
    "Asked for by the tenant",
    "Wrong prompt, the tenant sends it again",
    "客户要求取消",
    "The upstream is being moved tonight",
    "Ticket 4711",
    "Duplicate of yesterday's run",
)


def write(cast: Cast, rng: Random, *, now: datetime) -> None:
    moments = sorted(now - timedelta(days=rng.uniform(0, 60)) for _ in range(ENTRIES))
    Table(AuditEntry, *COLUMNS).load(_entry(moment, cast, rng) for moment in moments)
    _write_operations(rng, now)


def retry(*, now: datetime) -> Batch | None:
    """The failed lines of one of the batches that the test model did, for real: the new batch."""
    ended = Batch.objects.filter(endpoint=TEST_ENDPOINT, status=Status.COMPLETED, failed__gt=0)
    if (batch := ended.first()) is None:
        return None
    operation = operations.draft_retry(batch, "", by=BY_OPERATOR, now=now)
    operations.start(operation, "The tenant has corrected the roles", by=BY_OPERATOR, now=now)
    operations.carry_out(operation.pk)
    operation.refresh_from_db()
    if (result := operation.result) is None:
        return None
    # As if it had been a minute after the batch that it comes from.
    Batch.objects.filter(pk=result.pk).update(created_at=min(now, batch.created_at + timedelta(minutes=1)))
    return result


def _entry(at: datetime, cast: Cast, rng: Random) -> Row:
    tenant, model = rng.choice(cast.tenants), rng.choice(cast.served).model
    batch = f"Batch {rng.randint(1, 9999)}: batch_{rng.getrandbits(128):032x}"
    account, name = tenant.account, tenant.account.name
    action, target, of, changes, role = rng.choice(
        (
            ("batch.cancelled", batch, name, {}, "operator"),
            ("contents.viewed", batch, name, {}, "administrator"),
            ("contents.downloaded", batch, name, {}, "administrator"),
            ("model.paused", f"Served model {model.pk}: {model.name}", "", {}, "operator"),
            ("model.resumed", f"Served model {model.pk}: {model.name}", "", {}, "operator"),
            ("credit.added", f"Account {account.pk}: {name}", name, {"amount": [None, "500"]}, "billing"),
            ("account.changed", f"Account {account.pk}: {name}", name, {"max_files": [10000, 20000]}, "administrator"),
            ("key.issued", f"API key {tenant.keys[0]}: sk-…", name, {}, "administrator"),
            ("key.revoked", f"API key {tenant.keys[-1]}: sk-…", name, {}, "administrator"),
        )
    )
    reason = rng.choice(REASONS) if rng.random() < 0.6 else ""
    return (at, OPERATORS[role], f"10.4.0.{rng.randint(2, 60)}", action, target, of, changes, reason)


def _write_operations(rng: Random, now: datetime) -> None:
    moments = sorted(now - timedelta(days=rng.uniform(0.01, 50)) for _ in range(OPERATIONS))
    newest = Batch.objects.values_list("pk", flat=True).first() or 1
    Operation.objects.bulk_create(_operation(moment, newest, rng) for moment in moments)


def _operation(at: datetime, newest: int, rng: Random) -> Operation:
    total = min(newest, rng.choice((1, 3, 12, 40, 260, 1800)))
    first = rng.randint(1, newest - total + 1)
    aborted = rng.random() < 0.15 and total > 20
    position = rng.randint(1, total) if aborted else total
    unchanged = rng.randint(0, position // 8)
    problems = [[f"batch_{rng.getrandbits(128):032x}", "completed"] for _ in range(min(unchanged, 100))]
    return Operation(
        kind=Operation.Kind.CANCEL,
        state=Operation.State.ABORTED if aborted else Operation.State.DONE,
        created_by=BY_OPERATOR["actor"],
        address=BY_OPERATOR["address"],
        created_at=at - timedelta(seconds=40),
        started_at=at,
        finished_at=at + timedelta(seconds=position / 30),
        reason=rng.choice(REASONS),
        query="status=in_progress",
        targets=list(range(first, first + total)),
        total=total,
        position=position,
        changed=position - unchanged,
        problems=problems,
    )
