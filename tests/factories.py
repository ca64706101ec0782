from datetime import timedelta
from decimal import Decimal

import factory
from django.utils import timezone

from batches_app import history
from batches_app.models import Batch, Lane, ServedModel, Shard
from batches_app.states import Status
from billing_app import quotas
from billing_app.models import Account, Price
from files_app.models import StoredFile

BY_TENANT = history.by_tenant("sk-a…cdef")


class AccountFactory(factory.django.DjangoModelFactory[Account]):
    class Meta:
        model = Account

    name = factory.Sequence(lambda n: f"account {n}")


class ServedModelFactory(factory.django.DjangoModelFactory[ServedModel]):
    class Meta:
        model = ServedModel

    name = factory.Sequence(lambda n: f"model-{n}")
    endpoints = ("/v1/chat/completions",)
    upstream_url = "http://127.0.0.1:9/v1"


class LaneFactory(factory.django.DjangoModelFactory[Lane]):
    class Meta:
        model = Lane

    model = factory.SubFactory(ServedModelFactory)
    number = factory.Sequence(int)
    permits = 8


class PriceFactory(factory.django.DjangoModelFactory[Price]):
    class Meta:
        model = Price

    model_name = "m"
    input_price = Decimal("0.15")
    output_price = Decimal("0.60")
    batch_discount = Decimal("0.5")


class StoredFileFactory(factory.django.DjangoModelFactory[StoredFile]):
    class Meta:
        model = StoredFile
        skip_postgeneration_save = True

    account = factory.SubFactory(AccountFactory)
    purpose = "batch"
    filename = "requests.jsonl"
    bytes = 1
    sha256 = ""
    blob = factory.Sequence(lambda n: f"files/none/{n}")

    @factory.post_generation
    def counted(self, create: bool, extracted: object, **_: object) -> None:
        quotas.keep(self.account, files=1, size=self.bytes)


class BatchFactory(factory.django.DjangoModelFactory[Batch]):
    class Meta:
        model = Batch

    account = factory.SubFactory(AccountFactory)
    price = factory.SubFactory(PriceFactory)
    endpoint = "/v1/chat/completions"
    completion_window = "24h"
    input_file_id = "file-batch-x"
    status = Status.IN_PROGRESS
    total = 1000
    expires_at = factory.LazyFunction(lambda: timezone.now() + timedelta(hours=24))


class ShardFactory(factory.django.DjangoModelFactory[Shard]):
    class Meta:
        model = Shard

    batch = factory.SubFactory(BatchFactory)
    model = factory.SubFactory(ServedModelFactory)
    account = factory.SelfAttribute("batch.account")
    deadline = factory.SelfAttribute("batch.expires_at")
    first_line = factory.Sequence(lambda n: n * 10 + 1)
    last_line = factory.LazyAttribute(lambda shard: shard.first_line + 9)
    requests = 10
    offset = 0
    size = 1
