"""Who and what there is before the first batch: accounts with keys, models with prices, operators."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import accumulate
from random import Random

from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import Group, User

from batches_app import routing
from batches_app.models import SavedView, ServedModel
from batches_app.roles import ROLES
from batches_app.routing import Route
from batches_app.seeding import vocabulary
from batches_app.upstream import test_model
from billing_app import prices
from billing_app.models import Account, APIKey, Price
from billing_app.pricing import Rates

OPEN_FOR = timedelta(days=90)
CHAT, EMBEDDINGS, RESPONSES = "/v1/chat/completions", "/v1/embeddings", "/v1/responses"
OPERATORS = dict(zip(ROLES, ("vera", "olga", "bill", "ada"), strict=True))
VIEWS = (
    ("Failed today", "status=failed&created_from=24h"),
    ("Night shift", "status=under_way&deadline_before=8h&sort=deadline"),
    ("Many errors", "attention=many_errors"),
)


@dataclass(frozen=True, slots=True)
class Served:
    model: ServedModel
    endpoint: str
    price: Price
    new_price: Price | None  # from `repriced_at` on
    repriced_at: datetime
    input_tokens: int  # of a usual line
    output_tokens: int

    def price_at(self, moment: datetime) -> Price:
        return self.new_price if self.new_price and moment >= self.repriced_at else self.price


@dataclass(frozen=True, slots=True)
class Tenant:
    account: Account
    keys: tuple[int, ...]
    favourites: tuple[Served, ...]
    cached: float  # share of the input that the upstream has in its cache


@dataclass(frozen=True, slots=True)
class Cast:
    tenants: tuple[Tenant, ...]
    cum_weights: tuple[float, ...]  # of the tenants: by Zipf, so that a few make most of the batches
    served: tuple[Served, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    name: str
    endpoint: str
    concurrency: int
    price: tuple[str, str | None, str]  # input, cached input, output
    tokens: tuple[int, int]  # input, output
    reprice: str = ""  # output


PLANS = (
    Plan("qwen3-235b-a22b", CHAT, 512, ("0.70", "0.14", "2.80"), (900, 350), reprice="2.40"),
    Plan("qwen3-vl-flash", CHAT, 256, ("0.05", None, "0.40"), (1400, 120)),
    Plan("deepseek-v3.2", CHAT, 256, ("0.28", "0.028", "0.42"), (1100, 500)),
    Plan("gpt-oss-120b", RESPONSES, 128, ("0.15", None, "0.60"), (700, 600)),
    Plan("llama-4-maverick", CHAT, 64, ("0.27", None, "0.85"), (800, 260)),
    Plan("kimi-k2", CHAT, 96, ("0.60", "0.15", "2.50"), (1600, 450)),
    Plan("glm-4.6", CHAT, 32, ("0.60", "0.11", "2.20"), (1000, 380)),
    Plan("bge-m3", EMBEDDINGS, 64, ("0.01", None, "0"), (380, 0)),
)
PAUSED, THROTTLED, DOWN = "llama-4-maverick", "kimi-k2", "glm-4.6"


def create(accounts: int, rng: Random, *, now: datetime) -> Cast:
    served = tuple(_served(plan, now) for plan in PLANS)
    # The test model's own price is as young as the database, and the first batches are older.
    free = Rates(Decimal(0), Decimal(0), Decimal("0.5"), settings.CURRENCY)
    prices.set_price(test_model.MODEL, free, now - OPEN_FOR)
    weights = [1 / (rank + 1) ** 1.1 for rank in range(accounts)]
    tenants = tuple(_tenant(name, served, rng, now) for name in _names(accounts))
    return Cast(tenants, tuple(accumulate(weights)), served)


def _names(count: int) -> Sequence[str]:
    known = vocabulary.ACCOUNTS[:count]
    return [*known, *(f"Tenant {number}" for number in range(len(known) + 1, count + 1))]


def _served(plan: Plan, now: datetime) -> Served:
    opened, repriced_at = now - OPEN_FOR, now - timedelta(days=24)
    url = f"http://{plan.name.split('-')[0]}.upstream.example:8000/v1"
    route = Route(url, (plan.endpoint,), plan.concurrency, context_tokens=131_072, max_output_tokens=4_096)
    rates = _rates(plan, plan.price[2])
    model, _ = routing.serve(plan.name, route, rates, now=opened)
    price = prices.current(plan.name, at=now)
    assert price is not None
    later = prices.set_price(plan.name, _rates(plan, plan.reprice), repriced_at)[0] if plan.reprice else None
    return Served(model, plan.endpoint, price, later, repriced_at, *plan.tokens)


def _rates(plan: Plan, output: str) -> Rates:
    cached = plan.price[1]
    cached_input = Decimal(cached) if cached else None
    return Rates(Decimal(plan.price[0]), Decimal(output), Decimal("0.5"), settings.CURRENCY, cached_input)


def _tenant(name: str, served: Sequence[Served], rng: Random, now: datetime) -> Tenant:
    born = now - timedelta(days=rng.uniform(61, 400))
    account = Account.objects.create(name=name, weight=rng.choice((1, 1, 1, 2, 4)), created_at=born)
    keys = APIKey.objects.bulk_create([_key(account, use, rng, now) for use in _uses(rng)])
    favourites = tuple(rng.sample(served, rng.randint(2, 4)))
    return Tenant(account, tuple(key.pk for key in keys), favourites, rng.choice((0, 0, 0.2, 0.55)))


def _uses(rng: Random) -> list[str]:
    return rng.sample(("production", "airflow", "notebook", "staging", "数据团队"), rng.randint(1, 3))


def _key(account: Account, use: str, rng: Random, now: datetime) -> APIKey:
    """Nobody knows the key itself: its hash is of nothing."""
    last_used = now - timedelta(minutes=rng.expovariate(1 / 600))
    revoked = now - timedelta(days=9) if rng.random() < 0.1 else None
    return APIKey(
        account=account,
        key_hash=f"{rng.getrandbits(256):064x}",
        hint=f"sk-{rng.choice('abcdef')}…{rng.getrandbits(16):04x}",
        name=use,
        created_at=account.created_at,
        last_used_at=min(last_used, revoked or now),
        revoked_at=revoked,
    )


def create_operators() -> str:
    """One of each role, with one password, which is returned; operators that exist are left alone."""
    password = secrets.token_urlsafe(12)
    hashed = make_password(password)
    for role, name in OPERATORS.items():
        user, created = User.objects.get_or_create(username=name, defaults={"password": hashed, "is_staff": True})
        if created:
            user.groups.add(Group.objects.get(name=role))
            SavedView.objects.bulk_create([SavedView(user=user, name=title, query=query) for title, query in VIEWS])
    return password
