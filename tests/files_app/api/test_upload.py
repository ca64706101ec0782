import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from django.db import OperationalError

from files_app import blobs, retention
from files_app.models import StoredFile
from tests.tenants import LINE, Tenant, error_of

Disk = Callable[[], list[Path]]
B = "frontier"
FILE = ('Content-Disposition: form-data; name="file"; filename="in.jsonl"', LINE.decode())
PURPOSE = ('Content-Disposition: form-data; name="purpose"', "batch")


def form(*parts: tuple[str, str | bytes], end: str = f"--{B}--\r\n") -> bytes:
    written = b""
    for headers, content in parts:
        content = content if isinstance(content, bytes) else content.encode()
        written += f"--{B}\r\n{headers}\r\n\r\n".encode() + content + b"\r\n"
    return written + end.encode()


def send(tenant: Tenant, body: bytes, content_type: str = f"multipart/form-data; boundary={B}") -> Any:
    return tenant.post("files", raw=body, content_type=content_type)


def test_object(owner: Tenant, disk: Disk) -> None:
    """F2: the answer is the file's object, all members in order, processed at once."""
    response = owner.upload()
    assert response.status_code == 200
    wire = response.json()
    assert list(wire) == [
        "id", "object", "bytes", "created_at", "expires_at", "filename", "purpose", "status", "status_details",
    ]  # fmt: skip
    assert wire["bytes"] == len(LINE)
    assert (wire["object"], wire["filename"], wire["purpose"]) == ("file", "in.jsonl", "batch")
    assert (wire["status"], wire["status_details"], wire["expires_at"]) == ("processed", None, None)
    assert abs(wire["created_at"] - datetime.now(UTC).timestamp()) < 60


def test_id(owner: Tenant, disk: Disk) -> None:
    """F3: an uploaded file's id begins `file-batch-`, and has at least 96 random bits."""
    first, second = (owner.upload().json()["id"] for _ in range(2))
    assert first != second
    assert first.startswith("file-batch-")
    assert len(bytes.fromhex(first.removeprefix("file-batch-"))) >= 12


def test_bytes_are_kept_and_moved(owner: Tenant, disk: Disk) -> None:
    """F1: what was sent is what is stored, once, under a name that says nothing of the tenant."""
    content = LINE * 9_000 + b"\r\n\r\n--frontie\r\n\n"
    file = StoredFile.objects.get(public_id=owner.upload(content).json()["id"])
    assert file.sha256 == hashlib.sha256(content).hexdigest()
    with blobs.read(file.blob) as stored:
        assert stored.read() == content
    assert [path.name for path in disk()] == [Path(file.blob).name]
    assert file.blob.startswith(f"files/{datetime.now(UTC):%Y-%m-%d}/")


@pytest.mark.parametrize("parts", [(FILE, PURPOSE), (PURPOSE, FILE)])
def test_any_order(owner: Tenant, disk: Disk, parts: Any) -> None:
    """F1: fields may come before the file and after it."""
    seconds = ('Content-Disposition: form-data; name="expires_after[seconds]"', "3600")
    anchor = ('Content-Disposition: form-data; name="expires_after[anchor]"', "created_at")
    wire = send(owner, form(*parts, seconds, anchor)).json()
    assert wire["expires_at"] == wire["created_at"] + 3600
    assert send(owner, form(anchor, *parts, seconds)).json()["bytes"] == len(LINE)


def test_missing_fields(owner: Tenant, disk: Disk) -> None:
    """F1: a form without purpose or file is refused, and leaves nothing behind (F8)."""
    error = error_of(send(owner, form(FILE)), 400)
    assert (error["param"], error["code"]) == ("purpose", "missing_required_parameter")
    assert error["message"] == "Missing required parameter: 'purpose'."
    assert error_of(send(owner, form(PURPOSE)), 400)["param"] == "file"
    assert error_of(send(owner, form()), 400)["param"] == "purpose"
    assert error_of(send(owner, b""), 400)["param"] == "purpose"
    assert disk() == []


def test_purpose(owner: Tenant, disk: Disk) -> None:
    """F1: another purpose is a 400 that names the field, the value and what is supported."""
    error = error_of(owner.upload(purpose="fine-tune"), 400)
    assert (error["param"], error["code"]) == ("purpose", "invalid_value")
    assert "'fine-tune'" in error["message"]
    assert "'batch'" in error["message"]
    assert error_of(owner.upload(purpose="batch_output"), 400)
    assert disk() == []


@pytest.mark.parametrize(
    "name", ["upload", "unknown_file", "a.jsonl", "A.JSONL", "v1.2.jsonl", "żółć 😀.jsonl", ".jsonl"]
)
def test_good_names(owner: Tenant, disk: Disk, name: str) -> None:
    """F1: names that end in .jsonl, and names without an extension, which SDKs send for bytes."""
    assert owner.upload(name=name).json()["filename"] == name


@pytest.mark.parametrize("name", ["a.txt", "a.json", "a.jsonl.gz", "a.csv"])
def test_bad_names(owner: Tenant, disk: Disk, name: str) -> None:
    """F1: any other extension is refused."""
    error = error_of(owner.upload(name=name), 400)
    assert error["message"] == "Invalid file format for Batch API. Must be .jsonl"
    assert disk() == []


def test_hostile_names(owner: Tenant, disk: Disk) -> None:
    """C6: a filename cannot lead elsewhere, is no longer than its column, and holds no NUL."""

    def named(name: str) -> bytes:
        return form((f'Content-Disposition: form-data; name="file"; filename{name}', LINE), PURPOSE)

    assert send(owner, named('="../../etc/x.jsonl"')).json()["filename"] == "x.jsonl"
    assert send(owner, named('="..\\\\..\\\\x.jsonl"')).json()["filename"] == "x.jsonl"
    assert error_of(send(owner, named(f'="{"a" * 600}.jsonl"')), 400)["param"] == "file"
    for bad in (
        '="a\0b.jsonl"',
        "*=utf-8''a%00b.jsonl",
        "*=utf-8''%ED%A0%80.jsonl",
        "*=bogus''a.jsonl",
        '=""',
        '=".."',
    ):
        error_of(send(owner, named(bad)), 400)
    assert len(disk()) == 2


@pytest.mark.parametrize(("length", "status"), [(254, 200), (255, 200), (256, 400), (300, 400)])
@pytest.mark.parametrize("letter", ["a", "今"])
def test_long_names(owner: Tenant, disk: Disk, length: int, status: int, letter: str) -> None:
    """F2: a name comes back as it was sent, up to 255 characters."""
    name = letter * (length - len(".jsonl")) + ".jsonl"
    response = send(owner, form((f'Content-Disposition: form-data; name="file"; filename="{name}"', LINE), PURPOSE))
    assert response.status_code == status
    assert response.json().get("filename", name) == name


@pytest.mark.parametrize(("length", "status"), [(254, 200), (255, 200), (256, 400)])
def test_idempotency_key_length(owner: Tenant, disk: Disk, length: int, status: int) -> None:
    """C5: a key has up to 255 characters, and the last of them counts."""
    first, second = owner.upload(key="k" * length), owner.upload(key="k" * (length - 1) + "l")
    assert (first.status_code, second.status_code) == (status, status)
    assert first.json() != second.json() or error_of(first, 400)["param"] == "idempotency_key"


@pytest.mark.parametrize("value", [b"batch\0", b"\xed\xa0\x80", b"\xff", b"9" * 5_000, b"a" * 2_000_000])
def test_hostile_fields(owner: Tenant, disk: Disk, value: bytes) -> None:
    """C6: NUL and what is not UTF-8 in any field of the form, and fields without end, are a 400."""
    for name in ("purpose", "unknown", "expires_after[seconds]"):
        field = (f'Content-Disposition: form-data; name="{name}"', value)
        response = send(owner, form(FILE, PURPOSE, field))
        if name == "unknown" and value == b"9" * 5_000:
            assert response.status_code == 200  # it is but text
        else:
            error_of(response, 400)
    assert len(disk()) <= 1


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=é",
    ],
)
def test_no_boundary(owner: Tenant, content_type: str) -> None:
    """C1, C6: a form that cannot be taken apart."""
    error_of(send(owner, form(FILE, PURPOSE), content_type), 400)


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_truncated_form(owner: Tenant, disk: Disk, cut: int) -> None:
    """F8: a form whose end is missing is not taken for whole, wherever it breaks off."""
    body = form(PURPOSE, FILE)
    error_of(send(owner, body[: -2 - cut]), 400)
    assert disk() == []
    assert not StoredFile.objects.exists()


def test_two_files(owner: Tenant, disk: Disk) -> None:
    """F8: of two files in one form the last counts, and of the first nothing is left."""
    other = ('Content-Disposition: form-data; name="file"; filename="b.jsonl"', "second")
    extra = ('Content-Disposition: form-data; name="extra"; filename="c.jsonl"', "third")
    assert send(owner, form(FILE, other, extra, PURPOSE)).json()["filename"] == "b.jsonl"
    assert len(disk()) == 1


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"expires_after[anchor]": "created_at"}, "expires_after[seconds]"),
        ({"expires_after[seconds]": "3600"}, "expires_after[anchor]"),
        ({"expires_after[anchor]": "last_active_at", "expires_after[seconds]": "3600"}, "expires_after[anchor]"),
        ({"expires_after[anchor]": "created_at", "expires_after[seconds]": "3599"}, "expires_after[seconds]"),
        ({"expires_after[anchor]": "created_at", "expires_after[seconds]": "2592001"}, "expires_after[seconds]"),
        ({"expires_after[anchor]": "created_at", "expires_after[seconds]": "9" * 5_000}, "expires_after[seconds]"),
    ],
)
def test_bad_expiry(owner: Tenant, disk: Disk, fields: dict[str, str], param: str) -> None:
    """F1: an expiry outside of 3600…2592000 seconds, or half of one, is refused."""
    assert error_of(owner.upload(**fields), 400)["param"] == param
    assert disk() == []


@pytest.mark.parametrize("seconds", [3600, 3601, 2_591_999, 2_592_000])
def test_expiry(owner: Tenant, disk: Disk, seconds: int) -> None:
    """F1: the bounds are within."""
    fields = {"expires_after[anchor]": "created_at", "expires_after[seconds]": str(seconds)}
    wire = owner.upload(**fields).json()
    assert wire["expires_at"] - wire["created_at"] == seconds


def test_size(owner: Tenant, disk: Disk, settings: Any) -> None:
    """F8: a file of exactly the limit is taken; one byte more is not, and leaves nothing behind."""
    settings.MAX_FILE_BYTES = 1000
    assert owner.upload(b"a" * 999).status_code == owner.upload(b"a" * 1000).status_code == 200
    assert error_of(owner.upload(b"a" * 1001), 400)["message"] == "File is too large."
    assert error_of(owner.upload(b"a" * 100_000), 400)["message"] == "File is too large."
    assert len(disk()) == 2
    assert StoredFile.objects.count() == 2


def test_idempotency(owner: Tenant, disk: Disk) -> None:
    """C5: the same key with the same upload answers the same file."""
    first, second = (owner.upload(key="k-1").json() for _ in range(2))
    assert first == second
    assert len(disk()) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"name": "other.jsonl"},
        {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"},
    ],
)
def test_idempotency_conflict(owner: Tenant, disk: Disk, other: dict[str, str]) -> None:
    """C5: the same key with another upload is a conflict."""
    owner.upload(key="k-1")
    response = owner.upload(key="k-1", **other)
    assert "conflict" in error_of(response, 409)["message"]
    assert response["x-should-retry"] == "false"
    error_of(owner.upload(LINE * 2, key="k-1"), 409)
    assert len(disk()) == 1


def test_idempotency_is_the_accounts_own(owner: Tenant, stranger: Tenant, disk: Disk) -> None:
    """C5, C7: another account's key is another key."""
    assert owner.upload(key="k-1").json()["id"] != stranger.upload(key="k-1").json()["id"]


@pytest.mark.django_db(transaction=True)
def test_idempotency_after_deletion(owner: Tenant, disk: Disk) -> None:
    """C5: a key whose file was deleted is free, also while a batch still needs the bytes."""
    first = owner.upload(key="k-1").json()["id"]
    owner.delete(f"files/{first}")
    second = owner.upload(LINE * 2, key="k-1").json()["id"]
    assert second != first
    retention.hold(StoredFile.objects.get(public_id=second), "batch_1")
    owner.delete(f"files/{second}")
    assert owner.upload(LINE * 3, key="k-1").json()["id"] != second


def test_failure_before_the_row(owner: Tenant, disk: Disk) -> None:
    """F8: when the row cannot be written, the bytes go too."""
    with patch("files_app.uploads.insert", side_effect=RuntimeError):
        error_of(owner.upload(), 500)
    assert disk() == []


def test_failure_of_unknown_outcome(owner: Tenant, disk: Disk) -> None:
    """A database that went away may have committed: its file's bytes are left for the sweep to judge."""
    with patch("files_app.uploads.insert", side_effect=OperationalError):
        error_of(owner.upload(), 503)
    assert len(disk()) == 1


def test_expiry_is_part_of_the_row(owner: Tenant, disk: Disk) -> None:
    fields = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
    file = StoredFile.objects.get(public_id=owner.upload(**fields).json()["id"])
    assert file.expires_at == file.created_at + timedelta(hours=1)
