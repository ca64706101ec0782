import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import patch

import pytest
from django.conf import settings
from django.db import connection
from django.utils import timezone

from files_app import blobs, retention
from files_app.models import FileHold, StoredFile
from tests.tenants import LINE, Tenant

Disk = Callable[[], list[Path]]
pytestmark = pytest.mark.django_db(transaction=True)


def test_deleted_at_once(owner: Tenant, disk: Disk) -> None:
    """F6: without a hold, bytes and row go with the deletion."""
    file = owner.has_file()
    assert retention.delete_file(file, now=timezone.now())
    assert disk() == []
    assert not StoredFile.objects.exists()
    assert not retention.delete_file(file, now=timezone.now())


def test_bytes_stay_while_held(owner: Tenant, disk: Disk) -> None:
    """F6: the bytes of a deleted file stay until the last batch that needs them is done."""
    file = owner.has_file()
    assert retention.hold(file, "batch_1")
    assert retention.hold(file, "batch_2")
    retention.delete_file(file, now=timezone.now())
    retention.release("batch_1")
    retention.remove_unheld(100)
    with blobs.read(file.blob) as stored:
        assert stored.read() == LINE
    retention.release("batch_2")
    assert disk() == []
    assert not StoredFile.objects.exists()


def test_release_keeps_what_is_not_deleted(owner: Tenant, disk: Disk) -> None:
    """F6: a file that nobody deleted outlives its batches."""
    file = owner.has_file()
    retention.hold(file, "batch_1")
    retention.release("batch_1")
    assert retention.remove_unheld(100) == 0
    assert len(disk()) == 1


def test_no_hold_on_a_deleted_file(owner: Tenant, disk: Disk) -> None:
    """F6: a file that is deleted can no longer be held, even while another batch still holds it."""
    file = owner.has_file()
    retention.hold(file, "batch_1")
    retention.delete_file(file, now=timezone.now())
    assert not retention.hold(file, "batch_2")


def test_hold_twice(owner: Tenant, disk: Disk) -> None:
    """Holding is idempotent: a job that is delivered twice holds once."""
    file = owner.has_file()
    assert retention.hold(file, "batch_1")
    assert retention.hold(file, "batch_1")
    assert FileHold.objects.count() == 1


def test_hold_races_deletion(owner: Tenant, disk: Disk) -> None:
    """F6: whichever comes first, a batch that got its hold has its bytes."""
    for _ in range(15):
        file = owner.has_file()
        held: list[bool] = []
        start = threading.Barrier(2)

        def hold(file: StoredFile = file, held: list[bool] = held, start: threading.Barrier = start) -> None:
            start.wait()
            held.append(retention.hold(file, "batch_1"))
            connection.close()

        def delete(file: StoredFile = file, start: threading.Barrier = start) -> None:
            start.wait()
            retention.delete_file(file, now=timezone.now())
            connection.close()

        threads = [threading.Thread(target=hold), threading.Thread(target=delete)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(disk()) == int(held[0])
        retention.release("batch_1")
        assert disk() == []


def test_crash_between_bytes_and_row(owner: Tenant, disk: Disk) -> None:
    """A removal that was interrupted after the bytes is finished by the next one."""
    file = owner.has_file()
    with patch.object(StoredFile, "delete", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        retention.delete_file(file, now=timezone.now())
    assert disk() == []
    assert StoredFile.objects.count() == 1
    assert retention.remove_unheld(100) == 1
    assert not StoredFile.objects.exists()


def test_storage_away(owner: Tenant, disk: Disk) -> None:
    """While bytes cannot be removed the file is deleted all the same, and others are not kept from going."""
    first, second = owner.has_file(), owner.has_file()
    with patch("files_app.blobs.delete", side_effect=OSError):
        assert retention.delete_file(first, now=timezone.now())
    assert not StoredFile.objects.visible().filter(pk=first.pk).exists()
    broken = first.blob
    retention.hold(second, "batch_1")
    retention.delete_file(second, now=timezone.now())
    FileHold.objects.all().delete()
    real = blobs.delete

    def fail_for_first(name: str) -> None:
        if name == broken:
            raise OSError
        real(name)

    with patch("files_app.blobs.delete", side_effect=fail_for_first):
        assert retention.remove_unheld(100) == 1
    assert retention.remove_unheld(100) == 1
    assert disk() == []


def test_removal_fails_altogether(owner: Tenant, disk: Disk) -> None:
    """A deletion that is committed is answered as one, whatever becomes of the removal after it."""
    file = owner.has_file()
    with patch("files_app.retention._remove_these", side_effect=RuntimeError):
        assert retention.delete_file(file, now=timezone.now())
    assert retention.remove_unheld(100) == 1


def test_nothing_is_removed_by_what_is_rolled_back(owner: Tenant, disk: Disk) -> None:
    """Bytes go when the deletion is committed, not before."""
    from django.db import transaction

    file = owner.has_file()
    with transaction.atomic():
        retention.delete_file(file, now=timezone.now())
        transaction.set_rollback(True)
    assert len(disk()) == 1
    assert StoredFile.objects.visible().count() == 1


def test_expired_files(owner: Tenant, disk: Disk) -> None:
    """F1: a file past its expiry is deleted; one without expiry never."""
    now = timezone.now()
    owner.has_file(expires_at=now)
    owner.has_file(expires_at=now + timedelta(seconds=1))
    owner.has_file()
    assert retention.expire_due(now) == 1
    assert StoredFile.objects.count() == 2
    assert len(disk()) == 2


def _age(path: Path, age: timedelta) -> None:
    then = (datetime.now(UTC) - age).timestamp()
    os.utime(path, (then, then))


def test_orphans(owner: Tenant, disk: Disk) -> None:
    """F8: what a killed upload left behind is swept; what is young, or has a row, is not."""
    kept = owner.has_file()
    young = blobs.write(f"files/{datetime.now(UTC):%Y-%m-%d}", b"young")
    orphans = [blobs.write(f"files/{datetime.now(UTC) - timedelta(days=days):%Y-%m-%d}", b"old") for days in (0, 1, 7)]
    stale = Path(settings.FILE_UPLOAD_TEMP_DIR) / "stale.upload"
    live = Path(settings.FILE_UPLOAD_TEMP_DIR) / "live.upload"
    stale.touch()
    live.touch()
    old = timedelta(seconds=settings.ORPHAN_AGE + 60)
    for name in [kept.blob, *orphans]:
        _age(settings.DATA_DIR / "blobs" / name, old)
    _age(stale, old)
    assert retention.sweep_orphans(timezone.now()) == 4
    assert {path.name for path in disk()} == {Path(kept.blob).name, Path(young).name, "live.upload"}
    assert retention.sweep_orphans(timezone.now()) == 0
