"""F9 for uploads in parts (F10): their room is reserved from the announced size, for as long as they may be pending."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing_app import quotas
from billing_app.models import Account, Reservation, StorageUse
from files_app import retention
from files_app.models import MultipartUpload, StoredFile, UploadPart
from files_app.proof import prove_storage
from tests.tenants import LINE, Tenant, error_of
from tests.threads import at_once

Disk = Callable[[], list[Path]]
pytestmark = pytest.mark.django_db(transaction=True)
FILES = 10_000
BYTES = 107_374_182_400
LARGEST = 524_288_000


def limit(tenant: Tenant, **limits: int) -> None:
    Account.objects.filter(pk=tenant.account.pk).update(**limits)


def use_of(tenant: Tenant) -> tuple[int, int, int, int]:
    """Files and bytes that are kept, files and bytes that are reserved."""
    use = StorageUse.objects.get(account=tenant.account)
    return use.files, use.bytes, use.pending_files, use.pending_bytes


def begin(tenant: Tenant, size: int) -> str:
    upload_id: str = tenant.announce(size).json()["id"]
    return upload_id


def statuses(responses: Sequence[Any]) -> dict[int, int]:
    codes = [response.status_code for response in responses]
    return {code: codes.count(code) for code in set(codes)}


def test_room_is_reserved_from_the_announcement_on(owner: Tenant, disk: Disk) -> None:
    """F9: the place of a file and all its bytes, which its parts and its completion take from there."""
    upload_id = begin(owner, 2 * len(LINE))
    assert use_of(owner) == (0, 0, 1, 2 * len(LINE))
    ids = [owner.add_part(upload_id).json()["id"] for _ in range(2)]
    assert use_of(owner) == (0, 0, 1, 2 * len(LINE))
    assert list(prove_storage()) == []
    owner.complete(upload_id, *ids)
    assert use_of(owner) == (1, 2 * len(LINE), 0, 0)
    assert list(prove_storage()) == []


def test_it_is_reserved_for_as_long_as_the_upload_is_pending(owner: Tenant, disk: Disk) -> None:
    """F9: to the second; the reconciler gives back neither before the other."""
    begin(owner, 10)
    assert Reservation.objects.get().expires_at == MultipartUpload.objects.get().expires_at


def test_the_last_place_and_the_last_bytes(owner: Tenant, disk: Disk) -> None:
    """F9: nobody else gets them, and what is full says so."""
    quotas.keep(owner.account, files=FILES - 1, size=BYTES - LARGEST)
    upload_id = begin(owner, LARGEST)
    for refused in (owner.announce(0), owner.upload()):
        error = error_of(refused, 403)
        assert (error["type"], error["code"]) == ("insufficient_quota", "quota_exceeded")
        assert "may keep 10,000 files, and 10,000 are in use. Deleting files frees it" in error["message"]
    owner.post(f"uploads/{upload_id}/cancel")
    limit(owner, max_files=FILES + 5)
    begin(owner, LARGEST)
    assert "and this needs 1 more" in error_of(owner.announce(1), 403)["message"]
    assert MultipartUpload.objects.count() == 2


@pytest.mark.parametrize("end", ["cancel", "expire"])
def test_an_upload_that_came_to_nothing_gives_its_room_back(owner: Tenant, disk: Disk, end: str) -> None:
    """F9: what its parts took beyond the announcement too; once."""
    upload_id = begin(owner, 10)
    owner.add_part(upload_id)
    for _ in range(2):
        if end == "cancel":
            owner.post(f"uploads/{upload_id}/cancel")
        else:
            retention.expire_due(MultipartUpload.objects.get().expires_at)
        assert use_of(owner) == (0, 0, 0, 0)
    assert not Reservation.objects.exists()


def test_parts_beyond_the_announcement_need_room(owner: Tenant, disk: Disk) -> None:
    """F9: one that is sent twice, or never named, lies on the disk like any other."""
    limit(owner, max_bytes=100)
    upload_id = begin(owner, 60)
    ids = [owner.add_part(upload_id, b"a" * 30).json()["id"] for _ in range(2)]
    assert owner.add_part(upload_id, b"a" * 40).status_code == 200
    assert use_of(owner) == (0, 0, 1, 100)
    error = error_of(owner.add_part(upload_id, b"a"), 403)
    assert "may keep 100 bytes, 100 are in use, and this needs 1 more" in error["message"]
    assert len(disk()) == UploadPart.objects.count() == 3
    assert list(prove_storage()) == []
    assert owner.complete(upload_id, *ids).status_code == 200
    assert use_of(owner) == (1, 60, 0, 0)


def test_room_that_was_widened_meanwhile_is_given_back_whole(owner: Tenant, disk: Disk) -> None:
    """F9: whoever gives it back may have read it before the last part came."""
    upload_id = begin(owner, 10)
    room = Reservation.objects.get()
    owner.add_part(upload_id)
    assert quotas.give_back(room)
    assert use_of(owner) == (0, 0, 0, 0)


def test_a_limit_that_was_lowered_meanwhile(owner: Tenant, disk: Disk) -> None:
    """F9: limits count as they stand; the upload stays, until its hour is over."""
    upload_id = begin(owner, len(LINE))
    part_id = owner.add_part(upload_id).json()["id"]
    limit(owner, max_files=0)
    error_of(owner.complete(upload_id, part_id), 403)
    assert use_of(owner) == (0, 0, 1, len(LINE))
    assert len(disk()) == 1
    limit(owner, max_files=1)
    assert owner.complete(upload_id, part_id).status_code == 200


def test_without_its_room_an_upload_has_expired(owner: Tenant, disk: Disk) -> None:
    """F9: given back in the moment in which the hour was over; it is not taken from somebody else."""
    limit(owner, max_files=1)
    upload_id = begin(owner, len(LINE))
    part_id = owner.add_part(upload_id).json()["id"]
    quotas.give_back_expired(MultipartUpload.objects.get().expires_at)
    for response in (owner.add_part(upload_id), owner.complete(upload_id, part_id)):
        assert "'expired'" in error_of(response, 400)["message"]
    assert use_of(owner) == (0, 0, 0, 0)
    assert len(disk()) == 1


def test_one_account_takes_no_room_from_another(owner: Tenant, stranger: Tenant, disk: Disk) -> None:
    limit(stranger, max_files=0)
    assert owner.announce(LARGEST).status_code == 200


@pytest.mark.parametrize(
    ("counter", "what"), [("pending_files", "files reserved"), ("pending_bytes", "bytes reserved")]
)
def test_a_counter_that_is_wrong_is_found(owner: Tenant, disk: Disk, counter: str, what: str) -> None:
    """billing_reconcile proves what is reserved as what is kept."""
    begin(owner, 10)
    StorageUse.objects.update(**{counter: 7})
    (found,) = prove_storage()
    assert (found.account, found.what, found.kept) == ("owner", what, "7")
    assert found.due == {"pending_files": "1", "pending_bytes": "10"}[counter]


# At the same time


def test_announcements_race_for_the_last_places(owner: Tenant, disk: Disk) -> None:
    """F9: of 50 uploads racing for the last 10 places, 10 succeed, of whatever kind they are."""
    quotas.keep(owner.account, files=FILES - 10)
    responses = at_once([partial(owner.announce, 5), owner.upload] * 25)
    assert statuses(responses) == {200: 10, 403: 40}
    files, _, pending, _ = use_of(owner)
    assert files + pending == FILES
    assert list(prove_storage()) != []  # the files that `keep` made up
    assert MultipartUpload.objects.count() == pending


def test_announcements_race_for_the_last_bytes(owner: Tenant, disk: Disk) -> None:
    """F9: of 50 racing for the room of 7 and almost one more, 7 succeed."""
    quotas.keep(owner.account, size=BYTES - 8 * LARGEST + 1)
    responses = at_once([partial(owner.announce, LARGEST)] * 50)
    assert statuses(responses) == {200: 7, 403: 43}
    assert use_of(owner)[2:] == (7, 7 * LARGEST)


def test_parts_race_beyond_the_announcement(owner: Tenant, disk: Disk) -> None:
    """F9: as many are taken as there is room for, in parallel."""
    limit(owner, max_bytes=1000)
    upload_id = begin(owner, 250)
    responses = at_once([partial(owner.add_part, upload_id, b"a" * 100)] * 20)
    assert statuses(responses) == {200: 10, 403: 10}
    assert use_of(owner) == (0, 0, 1, 1000)
    assert len(disk()) == UploadPart.objects.count() == 10
    assert list(prove_storage()) == []


# Whatever happens


def newest(owner: Tenant) -> MultipartUpload:
    return MultipartUpload.objects.filter(account=owner.account).order_by("-pk")[0]


def complete_newest(owner: Tenant) -> Any:
    upload = newest(owner)
    return owner.complete(upload.public_id, *upload.parts.values_list("public_id", flat=True)[:1])


def delete_oldest(owner: Tenant) -> Any:
    file = StoredFile.objects.visible().filter(account=owner.account).order_by("pk").first()
    return file and owner.delete(f"files/{file.public_id}")


STEPS: dict[str, Callable[[Tenant], Any]] = {
    "announce": lambda owner: owner.announce(len(LINE)),
    "announce much": lambda owner: owner.announce(450),
    "add a part": lambda owner: owner.add_part(newest(owner).public_id),
    "add much": lambda owner: owner.add_part(newest(owner).public_id, b"a" * 200),
    "complete": complete_newest,
    "cancel": lambda owner: owner.post(f"uploads/{newest(owner).public_id}/cancel"),
    "expire": lambda owner: retention.expire_due(newest(owner).expires_at),
    "upload": lambda owner: owner.upload(),
    "delete": delete_oldest,
    "tidy up": lambda owner: retention.remove_unheld(100),
}


def assert_counted(owner: Tenant, disk: Disk) -> None:
    """The counters say what the rows say, the limits are kept, and there is room for what lies on the disk."""
    assert list(prove_storage()) == []
    files, kept, pending, reserved = use_of(owner)
    assert files + pending <= 3
    assert kept + reserved <= 1000
    room = sum(sum(pair) for pair in StorageUse.objects.values_list("bytes", "pending_bytes"))
    assert sum(path.stat().st_size for path in disk()) <= room


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(sorted(STEPS)), min_size=5, max_size=20))
def test_the_counters_are_the_rows_whatever_happens(disk: Disk, steps: list[str]) -> None:
    owner = Tenant(timezone.now().isoformat())
    limit(owner, max_files=3, max_bytes=1000)
    for step in ["announce", *steps]:
        STEPS[step](owner)
        assert_counted(owner, disk)


def test_everything_races(owner: Tenant, disk: Disk) -> None:
    limit(owner, max_files=3, max_bytes=1000)
    begin(owner, 10)
    answers = at_once([partial(step, owner) for step in list(STEPS.values()) * 4])
    responses = [answer for answer in answers if hasattr(answer, "status_code")]
    assert set(statuses(responses)) <= {200, 400, 403, 404, 503}
    retention.remove_unheld(100)
    assert_counted(owner, disk)
