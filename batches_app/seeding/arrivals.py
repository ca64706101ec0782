"""Batches that come in for real: with an input file of bytes, through the functions that the API calls."""

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto
from random import Random

from django.core.files.uploadedfile import SimpleUploadedFile

from batches_app import lifecycle
from batches_app.lifecycle import NewBatch
from batches_app.models import Batch, ServedModel
from batches_app.models.routing import TEST_ENDPOINT
from batches_app.seeding import vocabulary
from batches_app.seeding.cast import EMBEDDINGS, RESPONSES, Cast, Tenant
from billing_app import quotas
from billing_app.models import APIKey
from files_app import uploads
from files_app.models import StoredFile
from files_app.uploads import Upload

DAY = timedelta(hours=24)


class Fate(Enum):
    VALIDATING = auto()
    RUNNING = auto()
    LATE = auto()  # it will hardly make its deadline
    CANCELLING = auto()
    FINALIZING = auto()
    DONE = auto()  # by the test model


@dataclass(frozen=True, slots=True)
class Arrival:
    created: datetime
    fate: Fate
    tenant: Tenant
    model: ServedModel
    endpoint: str
    lines: int
    done: float  # share of the lines that have their result


def plan(under_way: int, done: int, cast: Cast, rng: Random, *, now: datetime) -> list[Arrival]:
    """In the order of their creation."""
    fates = [*_fates(under_way), *[Fate.DONE] * done]
    return sorted((_arrival(fate, cast, rng, now) for fate in fates), key=lambda arrival: arrival.created)


def _fates(count: int) -> list[Fate]:
    few = [Fate.VALIDATING, Fate.LATE, Fate.CANCELLING, Fate.FINALIZING] * max(1, count // 40)
    return [*few, *[Fate.RUNNING] * count][:count]


def _arrival(fate: Fate, cast: Cast, rng: Random, now: datetime) -> Arrival:
    tenant = rng.choices(cast.tenants, cum_weights=cast.cum_weights)[0]
    created = now - _age(fate, rng)
    if fate is Fate.DONE:
        model = ServedModel.objects.get(upstream_url=ServedModel.BUILTIN)
        return Arrival(created, fate, tenant, model, TEST_ENDPOINT, rng.randint(5, 400), 1)
    served, lines = rng.choice(tenant.favourites), int(rng.triangular(20, 3_000, 300))
    return Arrival(created, fate, tenant, served.model, served.endpoint, lines, _done(fate, rng))


def _age(fate: Fate, rng: Random) -> timedelta:
    if fate is Fate.VALIDATING:
        return timedelta(seconds=rng.uniform(1, 20))
    if fate is Fate.LATE:
        return DAY - timedelta(minutes=rng.uniform(4, 50))
    return timedelta(minutes=10 ** rng.uniform(0.2, 2.0 if fate is Fate.DONE else 3.0))


def _done(fate: Fate, rng: Random) -> float:
    if fate is Fate.FINALIZING:
        return 1
    most = 0.3 if fate is Fate.LATE else 0.97
    return max(0.0, rng.uniform(-0.1, most))  # some have only begun to wait


def create(arrival: Arrival, rng: Random) -> Batch:
    file = _upload(arrival, rng)
    name = f"{rng.choice(vocabulary.TASKS)} {arrival.created:%Y-%m-%d}"
    new = NewBatch(arrival.endpoint, file.public_id, "24h", DAY, {"ds_name": name})
    key = APIKey.objects.get(pk=arrival.tenant.keys[0])
    return lifecycle.create(arrival.tenant.account, key, new, now=arrival.created)


def _upload(arrival: Arrival, rng: Random) -> StoredFile:
    lines = [_line(arrival, number, rng) for number in range(1, arrival.lines + 1)]
    data, account = "\n".join(lines).encode(), arrival.tenant.account
    name = f"{rng.choice(('requests', 'batch', '批量请求', 'input'))}-{arrival.created:%H%M}.jsonl"
    upload = Upload(SimpleUploadedFile(name, data), hashlib.sha256(data).hexdigest(), name)
    with quotas.reserved(account, upload.size, now=arrival.created) as room:
        return uploads.store_upload(account, upload, room, now=arrival.created)


def _line(arrival: Arrival, number: int, rng: Random) -> str:
    question = rng.choice(vocabulary.QUESTIONS)
    if arrival.endpoint in (EMBEDDINGS, RESPONSES):
        asked: dict[str, object] = {"input": question}
    else:
        # The test model wants a message of a user: a line without one becomes an error line.
        role = "system" if arrival.fate is Fate.DONE and number % 17 == 0 else "user"
        asked = {"messages": [{"role": role, "content": question}], "temperature": 0.2}
    body = {"model": arrival.model.name} | asked
    request = {"custom_id": f"row-{number}", "method": "POST", "url": arrival.endpoint, "body": body}
    return json.dumps(request, ensure_ascii=False)
