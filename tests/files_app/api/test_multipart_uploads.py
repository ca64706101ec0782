"""F10: the Uploads API, as its answers are."""

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import OperationalError
from django.utils import timezone

from config.api.schema_document import document
from files_app import blobs, retention
from files_app.models import MultipartUpload, StoredFile, UploadPart
from tests.tenants import Tenant, error_of

Disk = Callable[[], list[Path]]
pytestmark = pytest.mark.django_db(transaction=True)
LARGEST = 524_288_000
PIECES = [b'{"custom_', b'id": "1"', b"}\n"]
WHOLE = b"".join(PIECES)
MD5 = hashlib.md5(WHOLE, usedforsecurity=False).hexdigest()


def begin(tenant: Tenant, size: int = len(WHOLE), **changes: object) -> str:
    upload_id: str = tenant.announce(size, **changes).json()["id"]
    return upload_id


def begin_with_parts(tenant: Tenant, pieces: list[bytes] = PIECES) -> tuple[str, list[str]]:
    upload_id = begin(tenant, len(b"".join(pieces)))
    return upload_id, [tenant.add_part(upload_id, piece).json()["id"] for piece in pieces]


def expire(upload_id: str) -> int:
    return MultipartUpload.objects.filter(public_id=upload_id).update(expires_at=timezone.now())


# What is answered


def test_object(owner: Tenant, disk: Disk) -> None:
    """F10: all members in order; it is pending, for an hour."""
    wire = owner.announce(1000, filename="a.jsonl").json()
    assert list(wire) == [
        "id", "object", "bytes", "created_at", "expires_at", "filename", "purpose", "status", "file",
    ]  # fmt: skip
    assert (wire["object"], wire["bytes"], wire["filename"], wire["purpose"]) == ("upload", 1000, "a.jsonl", "batch")
    assert (wire["status"], wire["file"], wire["expires_at"] - wire["created_at"]) == ("pending", None, 3600)
    assert abs(wire["created_at"] - datetime.now(UTC).timestamp()) < 60


def test_part(owner: Tenant, disk: Disk) -> None:
    """F10"""
    upload_id = begin(owner)
    wire = owner.add_part(upload_id).json()
    assert list(wire) == ["id", "object", "created_at", "upload_id"]
    assert (wire["object"], wire["upload_id"]) == ("upload.part", upload_id)
    assert wire["id"].startswith("part_")


def test_objects_are_described_as_they_are(owner: Tenant, disk: Disk) -> None:
    """F10: in the OpenAPI document, all members and no others."""
    described = document()["components"]["schemas"]
    upload_id, ids = begin_with_parts(owner)
    for name, sent in (
        ("UploadPart", owner.add_part(upload_id).json()),
        ("Upload", owner.complete(upload_id, *ids).json()),
    ):
        assert list(described[name]["properties"]) == list(sent)
        assert set(described[name]["required"]) == set(sent)


def test_parts_become_one_file(owner: Tenant, disk: Disk) -> None:
    """F10: in the order that the completion names, whatever order they came in; of the parts nothing is left."""
    upload_id = begin(owner)
    ids = {piece: owner.add_part(upload_id, piece).json()["id"] for piece in reversed(PIECES)}
    assert len(disk()) == 3
    wire = owner.complete(upload_id, *(ids[piece] for piece in PIECES), md5=MD5).json()
    assert (wire["id"], wire["status"]) == (upload_id, "completed")
    assert wire["file"] == owner.get(f"files/{wire['file']['id']}").json()
    file = StoredFile.objects.get()
    assert (file.sha256, file.bytes) == (hashlib.sha256(WHOLE).hexdigest(), len(WHOLE))
    with blobs.read(file.blob) as stored:
        assert stored.read() == WHOLE
    assert [path.name for path in disk()] == [Path(file.blob).name]
    assert not UploadPart.objects.exists()


def test_parts_that_are_not_named_are_left_out(owner: Tenant, disk: Disk) -> None:
    """F10: such as one that was sent a second time, because its answer was lost."""
    upload_id = begin(owner)
    owner.add_part(upload_id, PIECES[0])
    ids = [owner.add_part(upload_id, piece).json()["id"] for piece in PIECES]
    assert owner.complete(upload_id, *ids).json()["file"]["bytes"] == len(WHOLE)
    assert len(disk()) == 1


def test_an_empty_file_needs_no_part(owner: Tenant, disk: Disk) -> None:
    """F10, F1: contents are not judged at upload."""
    assert owner.complete(begin(owner, 0)).json()["file"]["bytes"] == 0


def test_expiry_of_the_file(owner: Tenant, disk: Disk) -> None:
    """F10, F1: it counts from the file's own creation."""
    upload_id = begin(owner, 0, expires_after={"anchor": "created_at", "seconds": 3600})
    MultipartUpload.objects.update(created_at=timezone.now() - timedelta(minutes=50))
    file = owner.complete(upload_id).json()["file"]
    assert file["expires_at"] - file["created_at"] == 3600
    assert abs(file["created_at"] - datetime.now(UTC).timestamp()) < 60


# What is refused


@pytest.mark.parametrize("name", ["filename", "purpose", "bytes", "mime_type"])
def test_missing_fields(owner: Tenant, name: str) -> None:
    error = error_of(owner.announce(**{"bytes": 1, name: None}), 400)
    assert (error["param"], error["code"]) == (name, "missing_required_parameter")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("bytes", LARGEST + 1, "File is too large."),
        ("bytes", 10**18, "File is too large."),
        ("bytes", -1, "Invalid value: '-1'"),
        ("bytes", "5", "expected an integer, but got a string"),
        ("bytes", 1.5, "expected an integer, but got a number"),
        ("bytes", True, "expected an integer, but got a boolean"),
        ("purpose", "fine-tune", "'batch'"),
        ("purpose", "batch_output", "'batch'"),
        ("filename", "a.csv", "Invalid file format for Batch API. Must be .jsonl"),
        ("filename", "a" * 256, "longer than 255 characters"),
        ("filename", "..", "Invalid value: '..'"),
        ("filename", "folder/", "Invalid value"),
        ("filename", 5, "expected a string"),
        ("mime_type", ["text/jsonl"], "expected a string"),
        ("expires_after", "never", "expected an object"),
    ],
)
def test_bad_announcements(owner: Tenant, field: str, value: object, message: str) -> None:
    """F1, F8, F9: nothing is reserved for them."""
    error = error_of(owner.announce(**{field: value}), 400)
    assert error["param"] == field
    assert message in error["message"]
    assert not MultipartUpload.objects.exists()


@pytest.mark.parametrize(
    ("value", "param"),
    [
        ({}, "expires_after[anchor]"),
        ({"anchor": "created_at"}, "expires_after[seconds]"),
        ({"anchor": "created_at", "seconds": 3599}, "expires_after[seconds]"),
        ({"anchor": "last_active_at", "seconds": 3600}, "expires_after[anchor]"),
    ],
)
def test_bad_expiry(owner: Tenant, value: object, param: str) -> None:
    assert error_of(owner.announce(expires_after=value), 400)["param"] == param


@pytest.mark.parametrize(
    ("given", "kept"), [("../../etc/x.jsonl", "x.jsonl"), ("C:\\x\\y.jsonl", "y.jsonl"), ("a\u202eb.jsonl", "ab.jsonl")]
)
def test_hostile_names(owner: Tenant, given: str, kept: str) -> None:
    """C6: judged as the filename of a form is."""
    assert owner.announce(filename=given).json()["filename"] == kept
    assert owner.upload(name=given).json()["filename"] == kept


@pytest.mark.parametrize(("size", "status"), [(LARGEST - 1, 200), (LARGEST, 200), (LARGEST + 1, 400)])
def test_announced_size(owner: Tenant, size: int, status: int) -> None:
    """F8: as large as a file may be."""
    assert owner.announce(size).status_code == status


@pytest.mark.parametrize(("size", "status"), [(999, 200), (1000, 200), (1001, 400), (100_000, 400)])
def test_part_size(owner: Tenant, disk: Disk, settings: Any, size: int, status: int) -> None:
    """F10: a part that is too large leaves nothing behind, whether its length shows it or its bytes."""
    settings.MAX_PART_BYTES = 1000
    response = owner.add_part(begin(owner, LARGEST), b"a" * size)
    assert response.status_code == status
    assert len(disk()) == UploadPart.objects.count() == int(status == 200)
    if status == 400:
        error = error_of(response, 400)
        assert error["param"] == "data"
        assert "1000 bytes at most" in error["message"]


def test_the_largest_part_is_64_mb(settings: Any) -> None:
    assert settings.MAX_PART_BYTES == 67_108_864


def test_bad_parts(owner: Tenant, disk: Disk) -> None:
    """F10: without bytes, under another name, not as a file, cut off."""
    path = f"/v1/uploads/{begin(owner)}/parts"
    for form in ({"data": SimpleUploadedFile("upload", b"")}, {"file": SimpleUploadedFile("x", b"a")}, {"data": "a"}):
        assert error_of(owner._client.post(path, form), 400)["param"] == "data"
    cut = b'--b\r\nContent-Disposition: form-data; name="data"; filename="x"\r\n\r\nabc'
    error_of(owner.post(path.removeprefix("/v1/"), raw=cut, content_type="multipart/form-data; boundary=b"), 400)
    error_of(owner.post(path.removeprefix("/v1/"), {"data": "a"}), 415)
    assert disk() == []


def test_parts_that_do_not_fit(owner: Tenant, stranger: Tenant, disk: Disk) -> None:
    """F10: unknown ones, another upload's, another account's, the same twice. The upload stays pending."""
    upload_id, ids = begin_with_parts(owner)
    others = [begin_with_parts(tenant)[1][0] for tenant in (owner, stranger)]
    for part_ids, message in (
        (["part_x", *ids], "no part 'part_x'"),
        ([others[0], *ids[1:]], f"no part '{others[0]}'"),
        ([others[1], *ids[1:]], f"no part '{others[1]}'"),
        ([ids[0], *ids], f"Part '{ids[0]}' is named more than once"),
        (["a" * 5_000], "no part 'aaa"),
    ):
        error = error_of(owner.complete(upload_id, *part_ids), 400)
        assert error["param"] == "part_ids"
        assert message in error["message"]
        assert len(error["message"]) < 300
    assert owner.complete(upload_id, *ids).status_code == 200


@pytest.mark.parametrize("named", [0, 1, 2])
def test_parts_of_another_size(owner: Tenant, disk: Disk, named: int) -> None:
    """F10: both sizes are told."""
    upload_id, ids = begin_with_parts(owner)
    size = len(b"".join(PIECES[:named]))
    error = error_of(owner.complete(upload_id, *ids[:named]), 400)
    assert error["message"] == f"The parts have {size} bytes in all, but {len(WHOLE)} bytes were announced."


def test_wrong_md5(owner: Tenant, disk: Disk) -> None:
    """F10: the upload stays pending, and its parts where they are."""
    upload_id, ids = begin_with_parts(owner)
    error = error_of(owner.complete(upload_id, *ids, md5="0" * 32), 400)
    assert (error["param"], error["code"]) == ("md5", "invalid_value")
    assert error["message"] == f"The md5 of the parts is {MD5}, not {'0' * 32}."
    assert not StoredFile.objects.exists()
    assert len(disk()) == 3
    assert owner.complete(upload_id, *ids, md5=MD5.upper()).json()["status"] == "completed"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "part_ids"),
        ({"part_ids": "part_1"}, "part_ids"),
        ({"part_ids": ["part_1", 2]}, "part_ids[1]"),
        ({"part_ids": [], "md5": "abc"}, "md5"),
        ({"part_ids": [], "md5": 5}, "md5"),
    ],
)
def test_bad_completions(owner: Tenant, body: object, param: str) -> None:
    assert error_of(owner.post(f"uploads/{begin(owner)}/complete", body), 400)["param"] == param


def test_broken_json(owner: Tenant) -> None:
    """C6: also where the body does not matter."""
    upload_id = begin(owner)
    for path in ("uploads", f"uploads/{upload_id}/complete", f"uploads/{upload_id}/cancel"):
        error_of(owner.post(path, raw=b'{"part_ids": ["\\ud800"]}'), 400)
    assert MultipartUpload.objects.get().status == "pending"


# What has ended


ENDS: dict[str, Callable[[Tenant, str], object]] = {
    "completed": lambda owner, upload_id: owner.complete(upload_id),
    "cancelled": lambda owner, upload_id: owner.post(f"uploads/{upload_id}/cancel"),
    "expired": lambda owner, upload_id: (expire(upload_id), retention.expire_due(timezone.now())),
}
CALLS: dict[str, Callable[[Tenant, str], Any]] = {
    "add a part to": lambda owner, upload_id: owner.add_part(upload_id),
    "complete": lambda owner, upload_id: owner.complete(upload_id, "part_x"),
    "cancel": lambda owner, upload_id: owner.post(f"uploads/{upload_id}/cancel"),
}


@pytest.mark.parametrize("status", ENDS)
@pytest.mark.parametrize("what", CALLS)
def test_an_upload_that_has_ended_takes_nothing_more(owner: Tenant, disk: Disk, status: str, what: str) -> None:
    upload_id = begin(owner, 0)
    ENDS[status](owner, upload_id)
    before = disk()
    response = CALLS[what](owner, upload_id)
    if (status, what) == ("cancelled", "cancel"):
        assert response.json()["status"] == "cancelled"  # the same answer to who did not hear the first
    else:
        assert error_of(response, 400)["message"] == f"Cannot {what} an upload with status '{status}'."
    assert disk() == before


@pytest.mark.parametrize("what", CALLS)
def test_an_hour_is_an_hour_though_nobody_has_swept_yet(owner: Tenant, disk: Disk, what: str) -> None:
    upload_id, ids = begin_with_parts(owner)
    expire(upload_id)
    response = owner.complete(upload_id, *ids) if what == "complete" else CALLS[what](owner, upload_id)
    assert error_of(response, 400)["message"].endswith("with status 'expired'.")
    assert len(disk()) == 3


def test_cancelling_removes_the_parts(owner: Tenant, disk: Disk) -> None:
    upload_id, _ = begin_with_parts(owner)
    wire = owner.post(f"uploads/{upload_id}/cancel").json()
    assert (wire["id"], wire["status"], wire["file"]) == (upload_id, "cancelled", None)
    assert disk() == []
    assert not UploadPart.objects.exists()


def test_an_end_while_a_part_comes_in(owner: Tenant, disk: Disk) -> None:
    """F10: it is refused, and leaves nothing behind."""
    upload_id = begin(owner)
    write = blobs.write

    def cancel_first(*arguments: Any) -> str:
        ENDS["cancelled"](owner, upload_id)
        return write(*arguments)

    with patch("files_app.blobs.write", cancel_first):
        assert "'cancelled'" in error_of(owner.add_part(upload_id), 400)["message"]
    assert disk() == []


# Who may


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_another_account_s_upload_is_as_one_that_does_not_exist(
    owner: Tenant, stranger: Tenant, disk: Disk, call: Callable[[Tenant, str], Any]
) -> None:
    """C7: byte for byte."""
    upload_id, _ = begin_with_parts(owner)
    foreign, unknown = call(stranger, upload_id), call(stranger, "upload_" + "0" * 24)
    error_of(foreign, 404)
    assert foreign.content == unknown.content.replace(b"upload_" + b"0" * 24, upload_id.encode())
    assert MultipartUpload.objects.get().status == "pending"
    assert len(disk()) == 3


# Called again


def test_the_same_completion_again_answers_the_same(owner: Tenant, disk: Disk) -> None:
    """F10: who did not hear the first answer asks again, as SDKs do by themselves."""
    upload_id, ids = begin_with_parts(owner)
    first = owner.complete(upload_id, *ids, md5=MD5).json()
    assert owner.complete(upload_id, *ids, md5=MD5).json() == first
    error_of(owner.complete(upload_id, *reversed(ids), md5=MD5), 400)
    error_of(owner.complete(upload_id, *ids), 400)
    assert StoredFile.objects.count() == 1


def test_a_completed_upload_outlives_its_file(owner: Tenant, disk: Disk) -> None:
    upload_id, ids = begin_with_parts(owner)
    owner.delete(f"files/{owner.complete(upload_id, *ids).json()['file']['id']}")
    wire = owner.complete(upload_id, *ids).json()
    assert (wire["status"], wire["file"]) == ("completed", None)


def test_faults_leave_the_upload_as_it_was(owner: Tenant, disk: Disk) -> None:
    """F8, F10: neither bytes nor a lease stay of a part or a completion that failed."""
    upload_id, ids = begin_with_parts(owner)
    with patch("files_app.multipart_uploads._insert_part", side_effect=RuntimeError):
        error_of(owner.add_part(upload_id), 500)
    for place in ("files_app.uploads.insert", "files_app.blobs.read"):
        with patch(place, side_effect=RuntimeError):
            error_of(owner.complete(upload_id, *ids), 500)
    assert len(disk()) == 3
    with patch("files_app.blobs.read", side_effect=FileNotFoundError):  # a blob is lost: no fault of the client's
        error_of(owner.complete(upload_id, *ids), 500)
    assert owner.complete(upload_id, *ids).status_code == 200


def test_a_failure_of_unknown_outcome(owner: Tenant, disk: Disk) -> None:
    """A database that went away may have committed: the bytes are left for the sweep to judge."""
    upload_id, ids = begin_with_parts(owner)
    with patch("files_app.uploads.insert", side_effect=OperationalError):
        error_of(owner.complete(upload_id, *ids), 503)
    assert len(disk()) == 4
    assert owner.complete(upload_id, *ids).status_code == 200


def test_a_cancellation_in_mid_completion_wins(owner: Tenant, disk: Disk) -> None:
    """F10: what was put together by then is thrown away."""
    upload_id, ids = begin_with_parts(owner)
    write = blobs.write

    def cancel_first(*arguments: Any) -> str:
        ENDS["cancelled"](owner, upload_id)
        return write(*arguments)

    with patch("files_app.blobs.write", cancel_first):
        assert "'cancelled'" in error_of(owner.complete(upload_id, *ids), 400)["message"]
    assert disk() == []
    assert not StoredFile.objects.exists()


def test_parts_that_go_in_mid_completion(owner: Tenant, disk: Disk) -> None:
    """F10: because the upload has expired: that is what is said."""
    upload_id, ids = begin_with_parts(owner)
    read = blobs.read

    def expire_first(name: str) -> Any:
        ENDS["expired"](owner, upload_id)
        return read(name)

    with patch("files_app.blobs.read", expire_first):
        assert "'expired'" in error_of(owner.complete(upload_id, *ids), 400)["message"]
    assert disk() == []
