"""Guards on the repository itself."""

from importlib import import_module

import pytest
from django.core.management import call_command

from batches_app.queue import Job


@pytest.mark.parametrize("job", list(Job))
def test_every_job_name_resolves(job: Job) -> None:
    module, _, name = job.value.rpartition(".")
    assert callable(getattr(import_module(module), name))


@pytest.mark.django_db
def test_no_migration_is_missing() -> None:
    call_command("makemigrations", "--check", "--dry-run", verbosity=0)
