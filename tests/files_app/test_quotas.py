"""F9: what an account may keep. Real numbers: of what fills the account before the test, only the counters exist."""

import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from django.db import OperationalError
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing_app import quotas
from billing_app.models import Account, Reservation, StorageUse
from files_app import retention
from files_app.models import StoredFile
from files_app.uploads import MULTIPART_SLACK
from tests.tenants import LINE, Tenant, error_of
from tests.threads import at_once

Disk = Callable[[], list[Path]]
FILES = 10_000
BYTES = 107_374_182_400
# Room for the first is reserved when its bytes are there, for the last two when its length is known.
SIZES = [1, MULTIPART_SLACK + 1, 300_000]


def use_of(tenant: Tenant) -> tuple[int, int]:
    """What is kept, once nothing is under way any more."""
    assert not Reservation.objects.exists()
    use = StorageUse.objects.get(account=tenant.account)
    assert (use.pending_files, use.pending_bytes) == (0, 0)
    return use.files, use.bytes


def assert_counted(tenant: Tenant) -> None:
    """The counters say what the rows say."""
    rows = StoredFile.objects.filter(account=tenant.account)
    assert use_of(tenant) == (rows.visible().count(), sum(rows.values_list("bytes", flat=True)))


def limit(tenant: Tenant, **limits: int) -> None:
    """As an operator does: nobody tells the objects that are in memory."""
    Account.objects.filter(pk=tenant.account.pk).update(**limits)


def statuses(responses: Sequence[Any]) -> dict[int, int]:
    codes = [response.status_code for response in responses]
    return {code: codes.count(code) for code in set(codes)}


@pytest.mark.parametrize(("kept", "status"), [(FILES - 2, 200), (FILES - 1, 200), (FILES, 403), (FILES + 1, 403)])
def test_files_up_to_the_limit(owner: Tenant, disk: Disk, kept: int, status: int) -> None:
    """F9: 10,000 files, and not one more; past it, as results may bring an account, none either."""
    quotas.keep(owner.account, files=kept)
    assert owner.upload().status_code == status
    stored = int(status == 200)
    assert use_of(owner) == (kept + stored, stored * len(LINE))
    assert len(disk()) == stored


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("spare", "status"), [(1, 200), (0, 200), (-1, 403)])
def test_bytes_up_to_the_limit(owner: Tenant, disk: Disk, size: int, spare: int, status: int) -> None:
    """F9: 107,374,182,400 bytes: a file that just fits is taken, one byte more is not."""
    kept = BYTES - size - spare
    quotas.keep(owner.account, size=kept)
    assert owner.upload(b"a" * size).status_code == status
    stored = int(status == 200)
    assert use_of(owner) == (stored, kept + stored * size)
    assert len(disk()) == stored


def test_a_full_account_takes_not_even_an_empty_file(owner: Tenant, disk: Disk) -> None:
    """F9: a file without bytes is a file; where only bytes are full it fits."""
    quotas.keep(owner.account, files=FILES - 1, size=BYTES)
    assert owner.upload(b"").status_code == 200
    error_of(owner.upload(b""), 403)


@pytest.mark.parametrize("size", SIZES)
def test_the_refusal_names_the_files(owner: Tenant, disk: Disk, size: int) -> None:
    """F9: the limit, what is used, and that deleting frees it."""
    quotas.keep(owner.account, files=FILES + 1)
    error = error_of(owner.upload(b"a" * size), 403)
    assert (error["type"], error["code"], error["param"]) == ("insufficient_quota", "quota_exceeded", None)
    assert "may keep 10,000 files, and 10,001 are in use. Deleting files frees it" in error["message"]


@pytest.mark.parametrize("size", SIZES)
def test_the_refusal_names_the_bytes(owner: Tenant, disk: Disk, size: int) -> None:
    """F9: of an upload that is refused, the room that it had reserved is not what is used."""
    kept = BYTES - size + 1
    quotas.keep(owner.account, files=FILES - 1, size=kept)
    error = error_of(owner.upload(b"a" * size), 403)
    assert (error["type"], error["code"], error["param"]) == ("insufficient_quota", "quota_exceeded", None)
    assert f"may keep 107,374,182,400 bytes, {kept:,} are in use, and this needs" in error["message"]
    assert "Deleting files frees it" in error["message"]


def test_one_account_takes_no_room_from_another(owner: Tenant, stranger: Tenant, disk: Disk) -> None:
    """F9: per account."""
    quotas.keep(stranger.account, files=FILES, size=BYTES)
    assert owner.upload().status_code == 200
    assert use_of(stranger) == (FILES, BYTES)


def test_limits_count_as_soon_as_they_are_edited(owner: Tenant, disk: Disk) -> None:
    """F9: limits are per account, and editable; what is kept already stays."""
    assert owner.upload().status_code == 200
    limit(owner, max_files=1)
    error_of(owner.upload(), 403)
    limit(owner, max_files=3)
    assert owner.upload().status_code == 200
    limit(owner, max_bytes=len(LINE) * 3 - 1)
    error_of(owner.upload(), 403)
    limit(owner, max_bytes=len(LINE) * 3)
    assert owner.upload().status_code == 200
    limit(owner, max_files=0, max_bytes=0)
    assert "may keep 0 files, and 3 are in use" in error_of(owner.upload(), 403)["message"]
    assert_counted(owner)
    assert len(owner.get("files").json()["data"]) == 3


@pytest.mark.django_db(transaction=True)
def test_deleting_frees_what_the_file_took(owner: Tenant, disk: Disk) -> None:
    """F9: deleting frees its place and its bytes at once, and once."""
    limit(owner, max_files=1, max_bytes=len(LINE))
    for _ in range(2):
        file = owner.upload().json()["id"]
        error_of(owner.upload(b""), 403)
        assert owner.delete(f"files/{file}").status_code == 200
        error_of(owner.delete(f"files/{file}"), 404)
        assert use_of(owner) == (0, 0)


@pytest.mark.django_db(transaction=True)
def test_bytes_count_until_no_batch_needs_them(owner: Tenant, disk: Disk) -> None:
    """F6, F9: the place is free at once; the bytes stay, and count."""
    limit(owner, max_bytes=len(LINE))
    file = owner.upload().json()["id"]
    retention.hold(StoredFile.objects.get(public_id=file), "batch_1")
    owner.delete(f"files/{file}")
    assert use_of(owner) == (0, len(LINE))
    retention.remove_unheld(100)
    assert "running batch" in error_of(owner.upload(), 403)["message"]
    retention.release("batch_1")
    assert use_of(owner) == (0, 0)
    assert owner.upload().status_code == 200


@pytest.mark.django_db(transaction=True)
def test_an_expired_file_frees_what_it_took(owner: Tenant, disk: Disk) -> None:
    """F1, F9: so does one whose time has come."""
    owner.has_file(expires_at=timezone.now())
    owner.has_file()
    retention.expire_due(timezone.now())
    assert_counted(owner)


def send(owner: Tenant, body: bytes, **headers: str) -> Any:
    return owner.post("files", raw=body, content_type="multipart/form-data; boundary=b", headers=headers)


LARGE = b"a" * 100_000
FORM = b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n' + LARGE
FAILURES: dict[str, tuple[int, Callable[[Tenant], Any]]] = {
    "another purpose": (400, lambda owner: owner.upload(LARGE, purpose="fine-tune")),
    "another extension": (400, lambda owner: owner.upload(LARGE, name="in.csv")),
    "a bad expiry": (400, lambda owner: owner.upload(LARGE, **{"expires_after[seconds]": "1"})),
    "no purpose": (400, lambda owner: send(owner, FORM + b"\r\n--b--\r\n")),
    "no end": (400, lambda owner: send(owner, FORM)),
    "the client left": (400, lambda owner: send(owner, FORM, **{"Content-Length": "200000"})),
    "another type": (415, lambda owner: owner.post("files", raw=LARGE)),
    "the key is another upload's": (409, lambda owner: owner.upload(LARGE, key="k")),
    "the key is none": (400, lambda owner: owner.upload(LARGE, key="k" * 256)),
}


@pytest.mark.parametrize(("status", "fail"), FAILURES.values(), ids=FAILURES.keys())
def test_an_upload_that_fails_gives_its_room_back(
    owner: Tenant, disk: Disk, status: int, fail: Callable[[Tenant], Any]
) -> None:
    """F8, F9: whatever it fails of, it leaves nothing behind, no reservation either."""
    owner.upload(key="k")
    error_of(fail(owner), status)
    assert use_of(owner) == (1, len(LINE))


@pytest.mark.parametrize("size", [50_001, 200_000])
def test_a_file_that_is_too_large_gives_its_room_back(owner: Tenant, disk: Disk, settings: Any, size: int) -> None:
    """F8, F9: whether its length shows it or its bytes."""
    settings.MAX_FILE_BYTES = 50_000
    owner.upload()
    assert error_of(owner.upload(b"a" * size), 400)["message"] == "File is too large."
    assert use_of(owner) == (1, len(LINE))


@pytest.mark.parametrize(("error", "status"), [(RuntimeError, 500), (OperationalError, 503)])
@pytest.mark.parametrize("place", ["files_app.uploads.insert", "files_app.blobs.write"])
def test_a_fault_of_ours_gives_the_room_back(
    owner: Tenant, disk: Disk, place: str, error: type[Exception], status: int
) -> None:
    """F8, F9: neither the file nor its room is counted."""
    owner.upload()
    with patch(place, side_effect=error):
        error_of(owner.upload(LARGE), status)
    assert use_of(owner) == (1, len(LINE))


def test_what_a_dead_process_had_reserved_is_given_back_in_time(owner: Tenant, disk: Disk, settings: Any) -> None:
    """F9: not before the upload can be taken for dead, and once."""
    limit(owner, max_files=1)
    now = timezone.now()
    with patch("billing_app.quotas.give_back"), quotas.reserved(owner.account, 100, now=now):
        pass  # the process dies here
    error_of(owner.upload(), 403)
    end = now + timedelta(seconds=settings.RESERVATION_SECONDS)
    assert quotas.give_back_expired(end - timedelta(microseconds=1)) == 0
    error_of(owner.upload(), 403)
    assert [quotas.give_back_expired(end) for _ in range(2)] == [1, 0]
    assert owner.upload().status_code == 200
    assert_counted(owner)


def test_an_upload_that_outlives_its_reservation_is_counted_once(owner: Tenant, disk: Disk, settings: Any) -> None:
    """F9: given back as expired, it is not given back again."""
    settings.RESERVATION_SECONDS = -1.0
    write = "files_app.blobs.write"
    with patch(write, side_effect=lambda *_: f"files/x/{quotas.give_back_expired(timezone.now())}"):
        assert owner.upload(LARGE).status_code == 200
    assert StoredFile.objects.get().blob == "files/x/1"
    assert_counted(owner)


def test_a_place_that_was_taken_meanwhile_is_not_given_twice(owner: Tenant, disk: Disk, settings: Any) -> None:
    """F9: an upload whose reservation expired is refused at its end, when another has its place."""
    limit(owner, max_files=1)
    settings.RESERVATION_SECONDS = -1.0

    def write(*_: object) -> str:
        quotas.give_back_expired(timezone.now())
        quotas.keep(owner.account, files=1)
        return "files/x/1"

    with patch("files_app.blobs.write", write):
        assert "may keep 1 files, and 1 are in use" in error_of(owner.upload(), 403)["message"]
    assert use_of(owner) == (1, 0)


@pytest.mark.parametrize("full", [{"max_files": 1}, {"max_bytes": len(LARGE)}])
def test_what_is_there_already_needs_no_room(owner: Tenant, disk: Disk, full: dict[str, int]) -> None:
    """C5, F9: a repeat answers the same file though the account is full; another upload with its key a conflict."""
    first = owner.upload(LARGE, key="k").json()
    limit(owner, **full)
    assert owner.upload(LARGE, key="k").json() == first
    assert "conflict" in error_of(owner.upload(LARGE * 2, key="k"), 409)["message"]
    error_of(owner.upload(LARGE, key="other"), 403)
    assert_counted(owner)


def test_a_key_whose_file_is_deleted_meanwhile_needs_room_after_all(owner: Tenant, disk: Disk) -> None:
    """C5, F9: between the look at the key and the end of the upload."""
    limit(owner, max_files=0)
    with patch("files_app.api.views.is_repeated", return_value=True):
        error_of(owner.upload(key="k"), 403)
        limit(owner, max_files=1)
        assert owner.upload(key="k").status_code == 200
    assert_counted(owner)


def test_a_key_whose_file_comes_and_goes_meanwhile(owner: Tenant, disk: Disk) -> None:
    """C5: the file that had the key when this one was to be stored is deleted before anybody can look: try again."""
    first = owner.upload(key="k").json()["id"]
    looked = iter([None, None, StoredFile.objects.none().first()])
    with patch("files_app.uploads._with_key", side_effect=lambda *_: next(looked)):
        assert error_of(owner.upload(key="k"), 503)["type"] == "server_error"
    assert_counted(owner)
    assert [file.public_id for file in StoredFile.objects.all()] == [first]


def delete_oldest(owner: Tenant) -> None:
    for file in StoredFile.objects.visible().filter(account=owner.account).order_by("id")[:1]:
        retention.delete_file(file, now=timezone.now())


def hold_oldest(owner: Tenant) -> None:
    for file in StoredFile.objects.visible().filter(account=owner.account).order_by("id")[:1]:
        retention.hold(file, owner.account.name)


STEPS: dict[str, Callable[[Tenant], Any]] = {
    "upload": lambda owner: owner.upload(),
    "upload much": lambda owner: owner.upload(LARGE),
    "upload nothing": lambda owner: owner.upload(b""),
    "upload once": lambda owner: owner.upload(key="k"),
    "upload other": lambda owner: owner.upload(LARGE, key="k"),
    "upload in vain": lambda owner: owner.upload(LARGE, purpose="x"),
    "write a result": lambda owner: owner.has_result(LINE),
    "delete": delete_oldest,
    "begin a batch": hold_oldest,
    "end the batch": lambda owner: retention.release(owner.account.name),
    "tidy up": lambda owner: retention.remove_unheld(100),
}


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(sorted(STEPS)), min_size=5, max_size=20))
def test_the_counters_are_the_rows_whatever_happens(db: None, disk: Disk, steps: list[str]) -> None:
    """F9: files that are not deleted, and the bytes of all that are still there."""
    owner = Tenant(timezone.now().isoformat())
    limit(owner, max_files=5, max_bytes=200_000)
    for step in ["upload", *steps]:
        STEPS[step](owner)
        assert_counted(owner)


class TestRaces:
    """F9: exact under concurrency."""

    pytestmark = pytest.mark.django_db(transaction=True)

    def test_uploads_race_for_the_last_places(self, owner: Tenant, disk: Disk) -> None:
        """F9: of 50 uploads racing for the last 10 places, 10 succeed."""
        quotas.keep(owner.account, files=FILES - 10)
        responses = at_once([owner.upload] * 50)
        assert statuses(responses) == {200: 10, 403: 40}
        assert use_of(owner) == (FILES, 10 * len(LINE))
        assert len(disk()) == StoredFile.objects.count() == 10

    @pytest.mark.parametrize("size", SIZES)
    def test_uploads_race_for_the_last_bytes(self, owner: Tenant, disk: Disk, size: int) -> None:
        """F9: of 50 uploads racing for the room of 7 and almost one more, 7 succeed."""
        kept = BYTES - 8 * size + 1
        quotas.keep(owner.account, size=kept)
        responses = at_once([partial(owner.upload, b"a" * size)] * 50)
        assert statuses(responses) == {200: 7, 403: 43}
        assert use_of(owner) == (7, kept + 7 * size)
        assert len(disk()) == 7

    def test_uploads_race_with_one_key(self, owner: Tenant, disk: Disk) -> None:
        """C5, F9: one file, counted once."""
        responses = at_once([partial(owner.upload, LARGE, key="k")] * 20)
        assert len({response.json()["id"] for response in responses}) == 1
        assert_counted(owner)
        assert len(disk()) == 1

    def test_uploads_race_with_one_key_for_the_last_place(self, owner: Tenant, disk: Disk) -> None:
        """C5, F9: one has the place; the others are to try again (503, as SDKs do), and then get its file."""
        quotas.keep(owner.account, files=FILES - 1)
        upload = partial(owner.upload, LARGE, key="k")
        responses = at_once([upload] * 20)
        assert set(statuses(responses)) <= {200, 503}
        assert {r["Retry-After"] for r in responses if r.status_code == 503} <= {"5"}
        again = [upload() if response.status_code == 503 else response for response in responses]
        assert len({response.json()["id"] for response in again}) == 1
        assert use_of(owner) == (FILES, len(LARGE))

    def test_a_key_is_freed_and_taken_at_the_same_time(self, owner: Tenant, disk: Disk) -> None:
        """C5, F9: an upload and the deletion of the file that had its key do not wait for one another."""
        path = f"files/{owner.upload(key='k').json()['id']}"
        keep, changed = quotas.keep, threading.Event()

        def keep_slowly(account: Account, **changes: int) -> None:
            changed.set()
            time.sleep(0.3)  # the upload comes to the row that is changed
            keep(account, **changes)

        def upload() -> Any:
            assert changed.wait(10)
            return owner.upload(key="k")

        # The upload looked at its key before the file that has it now came.
        with patch("files_app.uploads._with_key", return_value=None), patch("billing_app.quotas.keep", keep_slowly):
            responses = at_once([partial(owner.delete, path), upload])
        assert statuses(responses) == {200: 2}
        assert_counted(owner)

    def test_deletions_of_one_file_race(self, owner: Tenant, disk: Disk) -> None:
        """F9: what it took is given back once."""
        owner.has_file()
        path = f"files/{owner.has_file().public_id}"
        assert statuses(at_once([partial(owner.delete, path)] * 12)) == {200: 1, 404: 11}
        assert_counted(owner)

    def test_the_ends_of_batches_race_with_the_removal(self, owner: Tenant, disk: Disk) -> None:
        """F6, F9: the bytes of a deleted file are given back once, whoever removes them."""
        for _ in range(5):
            file = owner.has_file()
            for number in range(4):
                retention.hold(file, f"batch_{number}")
            ends = [partial(retention.release, f"batch_{number}") for number in range(4)]
            removals = [partial(retention.remove_unheld, 100)] * 4
            at_once([*ends, *removals, partial(retention.delete_file, file, now=timezone.now())])
            retention.remove_unheld(100)
            assert use_of(owner) == (0, 0)
        assert disk() == []

    def test_everything_races(self, owner: Tenant, disk: Disk) -> None:
        """F9: the counters are the rows, and the limits are kept, whatever happens at the same time."""
        limit(owner, max_files=8, max_bytes=400_000)
        uploads = [STEPS[step] for step in ("upload", "upload much", "upload once", "upload other", "upload in vain")]
        others = [STEPS[step] for step in ("delete", "begin a batch", "end the batch", "tidy up")]
        answers = at_once([partial(step, owner) for step in (*uploads, *others) * 5])
        responses = [answer for answer in answers if hasattr(answer, "status_code")]
        assert set(statuses(responses)) <= {200, 400, 403, 409, 503}
        assert_counted(owner)
        files, size = use_of(owner)
        assert files <= 8
        assert size <= 400_000
