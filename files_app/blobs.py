"""Bytes, by name, in Django's default storage: a folder, or S3. A blob is written once and never changed.

Whatever the storage is, it fails as a disk does: with an OSError."""

import errno
import io
import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, cast

from django.core.exceptions import SuspiciousOperation
from django.core.files.base import ContentFile, File
from django.core.files.storage import FileSystemStorage, default_storage

LOOKED_AT_ONCE, STREAMED_AT_ONCE = 1024 * 1024, 4 * 1024 * 1024  # bytes


class DurableFileSystemStorage(FileSystemStorage):
    """Returns from `save` only when the bytes survive a power cut, as a database row that names them will."""

    def _save(self, name: str, content: "File[bytes]") -> str:
        saved: str = super()._save(name, content)  # type: ignore[misc]  # documented for subclasses, not in the stubs
        path = Path(self.path(saved))
        for target in (path, path.parent):
            handle = os.open(target, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        return saved

    def read_range(self, name: str, offset: int, size: int) -> bytes:
        with self.open(name) as file:
            file.seek(offset)
            return bytes(file.read(size))


@contextmanager
def _failing_as_a_disk() -> Iterator[None]:
    """botocore's own exceptions are many, and have no ancestor in common with a disk's."""
    try:
        yield
    except SuspiciousOperation:
        raise
    except Exception as error:
        failure = _as_of_a_disk(error)
        if isinstance(failure, FileNotFoundError):
            try_to_ask()
        if failure is error:
            raise
        raise failure from error


def _as_of_a_disk(error: Exception) -> OSError:
    # botocore's time-outs are OSErrors, but without the number by which a disk that is away is known.
    if isinstance(error, FileNotFoundError) or (isinstance(error, OSError) and error.errno):
        return error
    said = getattr(error, "response", None)  # of its ClientError
    if isinstance(said, dict) and said.get("Error", {}).get("Code") in ("NoSuchKey", "404"):  # the latter of a HEAD
        return FileNotFoundError(errno.ENOENT, str(error))
    return _broken(error)


def _broken(error: Exception) -> OSError:
    return OSError(errno.EIO, f"{type(error).__name__}: {error}")


def _storage() -> Any:
    """A DurableFileSystemStorage or a Bucket."""
    return default_storage


@_failing_as_a_disk()
def write(folder: str, content: "bytes | File[bytes]") -> str:
    """Stores the content under a new name in `folder` and returns that name. An uploaded temporary file is moved."""
    file = ContentFile(content) if isinstance(content, bytes) else content
    name: str = default_storage.save(f"{folder}/{uuid.uuid4().hex}", file)
    return name


@_failing_as_a_disk()
def read(name: str) -> "File[bytes]":
    file = default_storage.open(name, "rb")
    try:
        file.open()  # S3 sends the bytes here. At the first `read` nobody would turn what fails into an OSError.
    except BaseException:
        file.close()
        raise
    return file


def look(name: str) -> BinaryIO:
    """As `read`, for who wants a part of it: from S3 only that is fetched, as it is read."""
    if isinstance(default_storage, FileSystemStorage):
        return cast(BinaryIO, read(name))
    with _failing_as_a_disk():
        size = default_storage.size(name)
    return io.BufferedReader(_Fetched(name, size), LOOKED_AT_ONCE)


def stream(name: str, span: range) -> BinaryIO:
    """The bytes of `span`, for who passes them on: from S3 they are fetched a piece at a time. The first is there
    already, so that a storage that fails is told before anything is sent."""
    if isinstance(default_storage, FileSystemStorage):
        file = cast(BinaryIO, read(name))
        file.seek(span.start)
        return file
    fetched = io.BufferedReader(_Fetched(name, span.stop), STREAMED_AT_ONCE)
    fetched.seek(span.start)
    fetched.peek()
    return fetched


class _Fetched(io.RawIOBase):
    """Range by range, as it is read."""

    def __init__(self, name: str, size: int) -> None:
        self._name, self._at, self._size = name, 0, size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        size = min(len(buffer), self._size - self._at)
        if size <= 0:
            return 0
        buffer[:size] = read_range(self._name, self._at, size)
        self._at += size
        return size

    def readall(self) -> bytes:
        """At once: its ancestor's asks for 8 kB, and again."""
        data = bytearray(max(0, self._size - self._at))
        self.readinto(data)
        return bytes(data)


@_failing_as_a_disk()
def read_range(name: str, offset: int, size: int) -> bytes:
    found: bytes = _storage().read_range(name, offset, size)
    return found


def delete(name: str) -> None:
    """Deleting what is gone already is fine: removal is retried after a crash."""
    with suppress(FileNotFoundError), _failing_as_a_disk():
        default_storage.delete(name)


@_failing_as_a_disk()
def modified_at(name: str) -> datetime:
    return default_storage.get_modified_time(name)


@_failing_as_a_disk()
def names_in(folder: str) -> list[str]:
    """The names, without the folder's, of the blobs right in it."""
    try:
        return default_storage.listdir(folder)[1]
    except FileNotFoundError:
        return []


@_failing_as_a_disk()
def folders_in(folder: str) -> list[str]:
    try:
        return default_storage.listdir(folder)[0]
    except FileNotFoundError:
        return []


def try_to_write() -> None:
    """Raises what the storage raises. In a folder the bytes have no name, and go with the process at the latest."""
    if isinstance(default_storage, FileSystemStorage):
        folder = Path(default_storage.location)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)  # it is new, before its first blob
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(4096))
    else:
        delete(write("probes", b"."))


def try_to_ask() -> bool:
    """Whether there is a storage that answers, where that costs less than to write. Raises OSError."""
    if isinstance(default_storage, FileSystemStorage):
        return False
    try:
        _storage().ask()
    except Exception as error:  # whatever it says: not that a blob is missing, though a bucket's 404 looks like that
        raise _broken(error) from error
    return True


def delete_folder(folder: str) -> None:
    """With the blobs in it. A folder that is gone already is fine."""
    for name in names_in(folder):
        delete(f"{folder}/{name}")
    delete(folder)  # which on S3, where folders are but names, does nothing
