"""Blobs in S3. A module of its own, for boto3 takes 27 MB of each process that imports it."""

from types import SimpleNamespace
from typing import Any, cast

from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from storages.backends.s3 import S3Storage

# Seconds. A write that hangs in both of its tries is over before a lane, which waits for it, is taken for dead.
CONNECT_TIMEOUT, SILENCE_TIMEOUT, ATTEMPTS = 3, 7, 2
ONE_PIECE = 1024 * 1024 * 1024  # bytes; what is larger is sent in parts
IN_MEMORY = 1024 * 1024  # bytes of what is fetched; the rest is on the disk meanwhile
CONNECTIONS = 16  # that are kept: as many as a web process has threads


class Bucket(S3Storage):  # type: ignore[misc]  # it has no type information
    """django-storages' own, that takes little memory and has little patience."""

    def __init__(
        self, *, addressing_style: str | None = None, signature_version: str | None = None, **options: Any
    ) -> None:
        super().__init__(
            max_memory_size=IN_MEMORY,
            file_overwrite=False,
            # boto3's way, parts of 8 MB on ten threads, holds 100 MB of a large file, and leaves parts behind in a
            # crash.
            transfer_config=TransferConfig(use_threads=False, multipart_threshold=ONE_PIECE),
            client_config=Config(
                s3={"addressing_style": addressing_style},
                signature_version=signature_version,
                connect_timeout=CONNECT_TIMEOUT,
                read_timeout=SILENCE_TIMEOUT,
                retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
                max_pool_connections=CONNECTIONS,
            ),
            **options,
        )
        self._connections = SimpleNamespace()  # not one for each thread: a client takes 13 MB, and can be shared

    def read_range(self, name: str, offset: int, size: int) -> bytes:
        """That alone is fetched: a batch reads its input in hundreds of ranges."""
        answer = self.bucket.Object(name).get(Range=f"bytes={offset}-{offset + size - 1}")
        return cast(bytes, answer["Body"].read())

    def delete(self, name: str) -> None:
        # Not the storage's own, for which what is in a bucket that cannot be found is gone.
        self.bucket.Object(name).delete()

    def ask(self) -> None:
        """Whether the bucket is there: without one, S3 says of each blob that there is none."""
        self.connection.meta.client.head_bucket(Bucket=self.bucket_name)
