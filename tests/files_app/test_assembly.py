"""F10: an upload's end, whatever dies or comes at the same time."""

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from pkgutil import resolve_name
from typing import Any
from unittest.mock import Mock, patch

import pytest
from django.conf import settings
from django.utils import timezone

from batches_app.reconciliation import reconcile
from files_app import assembly, blobs, multipart_uploads, retention
from files_app.models import MultipartUpload, StoredFile, UploadPart
from files_app.proof import prove_storage
from tests.tenants import Tenant, error_of
from tests.threads import at_once

Disk = Callable[[], list[Path]]
pytestmark = pytest.mark.django_db(transaction=True)
PIECES = [b"one\n", b"two\n", b"three\n", b"four\n"]
WHOLE = b"".join(PIECES)
OLD = timedelta(seconds=settings.ORPHAN_AGE + 60)


def begin(owner: Tenant) -> tuple[MultipartUpload, list[str]]:
    upload_id = owner.announce(len(WHOLE)).json()["id"]
    ids = [owner.add_part(upload_id, piece).json()["id"] for piece in PIECES]
    return MultipartUpload.objects.get(public_id=upload_id), ids


def assert_one_file(disk: Disk) -> None:
    """And nothing besides, on the disk or in the books."""
    file = StoredFile.objects.get()
    with blobs.read(file.blob) as stored:
        assert stored.read() == WHOLE
    assert [path.name for path in disk()] == [Path(file.blob).name]
    assert not UploadPart.objects.exists()
    assert list(prove_storage()) == []


def age(path: Path) -> None:
    then = (datetime.now(UTC) - OLD).timestamp()
    os.utime(path, (then, then))


# Killed


def test_a_completion_that_died_can_be_called_again(owner: Tenant, disk: Disk) -> None:
    """F10: after the dead one's lease; what it wrote is swept."""
    upload, ids = begin(owner)
    nothing = Mock(return_value=None)
    with (
        patch("files_app.assembly._conclude", side_effect=KeyboardInterrupt),  # killed: nobody tidies up
        patch("files_app.retention.discard", nothing),
        patch("files_app.assembly.Lease.__exit__", nothing),
        pytest.raises(KeyboardInterrupt),
    ):
        assembly.complete(upload, assembly.Completion(ids), now=timezone.now())
    assert len(disk()) == len(PIECES) + 1
    refused = owner.complete(upload.public_id, *ids)
    error_of(refused, 503)
    assert 1 <= int(refused["Retry-After"]) <= settings.UPLOAD_LEASE
    MultipartUpload.objects.update(lease_expires_at=timezone.now())
    assert owner.complete(upload.public_id, *ids).status_code == 200
    for path in disk():
        age(path)
    assert retention.sweep_orphans(timezone.now()) == 1
    assert_one_file(disk)


def test_a_part_that_died_before_its_row_is_swept(owner: Tenant, disk: Disk) -> None:
    """F10: and none that has a row, or is young."""
    upload, ids = begin(owner)
    young, old = (blobs.write(f"parts/{datetime.now(UTC):%Y-%m-%d}", b"x") for _ in range(2))
    for path in disk():
        if path.name != Path(young).name:
            age(path)
    assert retention.sweep_orphans(timezone.now()) == 1
    assert Path(old).name not in {path.name for path in disk()}
    assert owner.complete(upload.public_id, *ids).status_code == 200


# At the same time


def test_while_one_puts_the_parts_together_nobody_else_begins_to(owner: Tenant, disk: Disk) -> None:
    """F10: the lease is renewed on the way; how long that takes does not matter."""
    upload, ids = begin(owner)
    wanted, refused, read = assembly.Completion(ids), [], blobs.read
    clock = Mock(now=Mock(return_value=timezone.now()))

    def read_slowly(name: str) -> Any:
        clock.now.return_value += timedelta(seconds=settings.UPLOAD_LEASE * 0.8)
        with pytest.raises(assembly.UnderWay) as raised:
            assembly.complete(MultipartUpload.objects.get(), wanted, now=clock.now())
        refused.append(int(str(raised.value)))
        return read(name)

    with (
        patch("files_app.assembly.timezone", clock),
        patch("files_app.assembly.monotonic", lambda: clock.now().timestamp()),
        patch("files_app.blobs.read", read_slowly),
    ):
        assembly.complete(upload, wanted, now=clock.now())
    assert len(refused) == len(PIECES)
    assert_one_file(disk)


@pytest.mark.parametrize("place", ["files_app.assembly._parts", "files_app.blobs.read", "files_app.blobs.write"])
def test_who_is_late_after_a_pause_finds_what_another_made(owner: Tenant, disk: Disk, place: str) -> None:
    """F10: before it looks for the parts, or stopped past its lease, before or after it had read them."""
    upload, ids = begin(owner)
    wanted, real = assembly.Completion(ids), resolve_name(place)
    answers: list[Any] = []

    def overtaken(*arguments: Any) -> Any:
        if not answers:
            MultipartUpload.objects.update(lease_expires_at=timezone.now())
            with patch(place, real):  # for who overtakes
                answers.append(owner.complete(upload.public_id, *ids))
        return real(*arguments)

    with patch(place, overtaken):
        assembly.complete(upload, wanted, now=timezone.now())
    assert upload.file_public_id == answers[0].json()["file"]["id"]
    assert_one_file(disk)


def test_completions_race(owner: Tenant, disk: Disk) -> None:
    """F10: one file, whoever makes it; the others get it, or are to try again, as SDKs do (C4)."""
    upload, ids = begin(owner)
    complete = partial(owner.complete, upload.public_id, *ids)
    responses = at_once([complete] * 8)
    assert {response.status_code for response in responses} <= {200, 503}
    again = [complete() if response.status_code == 503 else response for response in responses]
    assert len({response.json()["file"]["id"] for response in again}) == 1
    assert_one_file(disk)


def test_ends_race(owner: Tenant, disk: Disk) -> None:
    """F10: completion, cancellation and expiry: one of them wins, and what it says is so."""
    for _ in range(6):
        upload, ids = begin(owner)
        later = upload.expires_at
        at_once(
            [
                partial(owner.complete, upload.public_id, *ids),
                partial(owner.post, f"uploads/{upload.public_id}/cancel"),
                partial(retention.expire_due, later),
                partial(owner.add_part, upload.public_id),
            ]
        )
        upload.refresh_from_db()
        retention.remove_unheld(100)
        assert upload.status != "pending"
        assert StoredFile.objects.count() == len(disk()) == int(upload.status == "completed")
        assert list(prove_storage()) == []
        for file in StoredFile.objects.all():
            owner.delete(f"files/{file.public_id}")


# Left alone


def test_after_an_hour_it_expires(owner: Tenant, disk: Disk) -> None:
    """F10: not before; its parts are removed, once."""
    upload, _ = begin(owner)
    assert retention.expire_due(upload.expires_at - timedelta(microseconds=1)) == 0
    assert [retention.expire_due(upload.expires_at) for _ in range(2)] == [1, 0]
    upload.refresh_from_db()
    assert upload.status == "expired"
    assert disk() == []
    assert list(prove_storage()) == []


def test_the_reconciler_comes_by(owner: Tenant, disk: Disk) -> None:
    upload, _ = begin(owner)
    reconcile(now=upload.expires_at)
    upload.refresh_from_db()
    assert upload.status == "expired"
    assert disk() == []
    assert list(prove_storage()) == []


def test_parts_that_could_not_be_removed_go_later(owner: Tenant, disk: Disk) -> None:
    """F10: the storage was away, or there were too many for one request."""
    upload, _ = begin(owner)
    with patch("files_app.blobs.delete", side_effect=OSError):
        multipart_uploads.cancel(upload, now=timezone.now())
        assert retention.remove_unheld(100) == 0
    assert len(disk()) == len(PIECES)
    assert [retention.remove_unheld(3) for _ in range(3)] == [3, 1, 0]
    upload, _ = begin(owner)
    with patch("files_app.retention.PARTS_AT_ONCE", 1):
        multipart_uploads.cancel(upload, now=timezone.now())
    assert retention.remove_unheld(100) == 3
    assert disk() == []


def test_what_has_ended_is_forgotten_after_a_week(owner: Tenant, disk: Disk) -> None:
    """F10: what is pending, or has parts still, is not."""
    uploads = [begin(owner)[0] for _ in range(3)]
    with patch("files_app.blobs.delete", side_effect=OSError):
        multipart_uploads.cancel(uploads[1], now=timezone.now())
    multipart_uploads.cancel(uploads[2], now=timezone.now())
    week = uploads[2].expires_at + retention.UPLOADS_KEPT
    retention.sweep_orphans(week)
    assert MultipartUpload.objects.count() == 3
    retention.sweep_orphans(week + timedelta(seconds=1))
    assert list(MultipartUpload.objects.order_by("pk")) == uploads[:2]
