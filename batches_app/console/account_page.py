"""One account: where it stands, its keys, limits and newest batches, and what was done to it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from django.db.models import Count, Sum, Value
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone

from batches_app.console.accounts import row
from batches_app.models import Batch
from batches_app.states import TERMINAL
from billing_app import standing
from billing_app.console import statement, trail
from billing_app.models import Account, APIKey, AuditEntry
from config.console.access import page

KEYS, BATCHES = "billing_app.view_apikey", "batches_app.view_batch"
SHOWN = 5
SHOWN_KEYS = 50


@page("billing_app.view_account")
def account(request: HttpRequest, pk: int) -> HttpResponse:
    now, may = timezone.now(), request.user.has_perm
    found = standing.with_standing(Account.objects.filter(pk=pk), now).first()
    if found is None:
        raise Http404
    context: dict[str, Any] = _standing(found)
    if may(KEYS):
        context["keys"] = _keys(found, now)
    if may(BATCHES):
        context["batches"] = found.batches.defer("errors", "metadata").order_by("-pk")[:SHOWN]
    if may(statement.PERMISSION):
        context["statements"] = standing.statement_months(found, now)
    if may(trail.PERMISSION):
        context["trail"] = AuditEntry.objects.filter(account=found.name)[:SHOWN]
    return render(request, "console/account.html", context)


def _standing(account: Account) -> dict[str, Any]:
    active, enqueued = _alive(account)
    limits = _limits(account)
    tokens = {limit.of: limit.most for limit in limits if limit.kind == "tokens"}
    return {
        "account": account,
        "row": row(account, active, None),
        "rate_limits": [limit for limit in limits if limit.kind == "rate"],
        "enqueued": [Enqueued(model, enqueued[model], tokens.get(model)) for model in sorted({*enqueued, *tokens})],
    }


def _alive(account: Account) -> tuple[int, Counter[str]]:
    """How many batches have not ended, and the tokens that they have enqueued by model (V12)."""
    alive = Batch.objects.filter(account=account).exclude(status__in=sorted(TERMINAL)).order_by()
    sums = list(alive.values_list("model_name").annotate(Count("pk"), Sum("enqueued_tokens")))
    # Before its file is read nobody knows a batch's model.
    return sum(count for _, count, _ in sums), Counter({model: tokens for model, _, tokens in sums if model})


class Limit(NamedTuple):
    """Of the account's own; `of` a scope of the API or a model."""

    kind: str
    of: str
    most: int


def _limits(account: Account) -> list[Limit]:
    rates = account.rate_limits.order_by().values_list(Value("rate"), "scope", "per_minute")
    tokens = account.enqueued_token_limits.order_by().values_list(Value("tokens"), "model_name", "tokens")
    return sorted(Limit(*limit) for limit in rates.union(tokens, all=True))


class Enqueued(NamedTuple):
    model: str
    tokens: int
    most: int | None


@dataclass(frozen=True, slots=True)
class Key:
    key: APIKey
    state: str
    spent: Decimal  # this month


def _keys(account: Account, now: datetime) -> Sequence[Key]:
    spent = {row.api_key_id: row.amount for row in account.spends_now}  # type: ignore[attr-defined]  # with_standing's
    keys = account.keys.order_by("-pk")[:SHOWN_KEYS]
    return [Key(key, _state(key, now), spent.get(key.pk, Decimal(0))) for key in keys]


def _state(key: APIKey, now: datetime) -> str:
    if key.revoked_at:
        return "revoked"
    return "expired" if key.expires_at and key.expires_at <= now else "valid"
