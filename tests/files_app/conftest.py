import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.conf import settings

from tests.tenants import Tenant

Disk = Callable[[], list[Path]]


@pytest.fixture
def disk() -> Iterator[Disk]:
    """Lists every file that uploads have on this disk: blobs, and what has come in and is not stored yet."""
    incoming, blobs = settings.FILE_UPLOAD_TEMP_DIR, settings.DATA_DIR / "blobs"
    stored = [blobs / "files", blobs / "parts"]

    def clear() -> None:
        for folder in stored:
            shutil.rmtree(folder, ignore_errors=True)
        for path in incoming.iterdir():
            path.unlink()

    clear()
    yield lambda: [path for folder in (*stored, incoming) for path in folder.rglob("*") if path.is_file()]
    clear()


@pytest.fixture
def owner(db: None) -> Tenant:
    return Tenant("owner")


@pytest.fixture
def stranger(db: None) -> Tenant:
    return Tenant("stranger")
