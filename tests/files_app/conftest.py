import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings


def files_on_disk() -> list[Path]:
    """Every byte that files have on this disk: blobs, and uploads that have not ended."""
    return [
        path
        for folder in (settings.DATA_DIR / "blobs" / "files", settings.FILE_UPLOAD_TEMP_DIR)
        for path in folder.rglob("*")
        if path.is_file()
    ]


@pytest.fixture
def disk() -> Iterator[type]:
    def clear() -> None:
        shutil.rmtree(settings.DATA_DIR / "blobs" / "files", ignore_errors=True)
        for path in Path(settings.FILE_UPLOAD_TEMP_DIR).iterdir():
            path.unlink()

    clear()
    yield files_on_disk  # type: ignore[misc]  # a callable that lists them
    clear()
