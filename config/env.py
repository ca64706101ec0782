"""Facts of the deployment, read from the environment.

`NAME_FILE` holds the path of a file with the value of `NAME`, for secrets. A wrong value stops the start
with one sentence that names every variable at fault (`env.seal()` at the end of the settings).
"""

import os
import secrets
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from django.core.exceptions import ImproperlyConfigured
from environs import FileAwareEnv, ValidationError

from config import addresses

BASE_DIR = Path(__file__).resolve().parent.parent

MAIL_TIMEOUT = 5  # seconds, for each answer of the mail server
S3_OPTIONS = ("endpoint_url", "region_name", "addressing_style", "signature_version")

env = FileAwareEnv(eager=False)


def kept_secret(kept_in: Path) -> str:
    """Made once, and kept in a file that only its owner can read."""
    if not kept_in.exists():
        # Linked whole: of two processes that start at once, neither reads what the other has not written yet.
        with tempfile.NamedTemporaryFile("w", dir=kept_in.parent) as draft, suppress(FileExistsError):
            draft.write(secrets.token_urlsafe(48))
            draft.flush()
            os.link(draft.name, kept_in)
    return kept_in.read_text().strip()


def storage(url: str, folder: Path) -> dict[str, Any]:
    """Django's STORAGES entry for `STORAGE_URL`: empty for `folder`, or `s3://BUCKET?endpoint_url=…&region_name=…`."""
    if not url:
        return {
            "BACKEND": "files_app.blobs.DurableFileSystemStorage",
            "OPTIONS": {"location": folder, "file_permissions_mode": 0o600, "directory_permissions_mode": 0o700},
        }
    parts = urlsplit(url)
    if parts.scheme != "s3" or not parts.netloc:
        raise ImproperlyConfigured(f"STORAGE_URL must look like s3://BUCKET?endpoint_url=…, not {url!r}.")
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    if unknown := [name for name in options if name not in S3_OPTIONS]:
        raise ImproperlyConfigured(f"STORAGE_URL knows {', '.join(S3_OPTIONS)}, not {unknown[0]!r}.")
    return {"BACKEND": "files_app.bucket.Bucket", "OPTIONS": {"bucket_name": parts.netloc} | options}


def email(url: str) -> dict[str, Any]:
    """Django's EMAIL_… settings for `EMAIL_URL`: empty for no mail, or `smtp://USER:PASSWORD@HOST:PORT?tls=true`."""
    if not url:
        return {"EMAIL_BACKEND": "django.core.mail.backends.dummy.EmailBackend"}
    found = env.dj_email_url("EMAIL_URL") if url.startswith(("smtp://", "submission://", "console://")) else None
    if found is None:
        raise ImproperlyConfigured("EMAIL_URL must look like smtp://USER:PASSWORD@HOST:PORT?tls=true.")
    return {**found, "EMAIL_TIMEOUT": found["EMAIL_TIMEOUT"] or MAIL_TIMEOUT}


def check_networks(words: Sequence[str]) -> None:
    """Of UPSTREAM_ADDRESSES."""
    if unknown := [word for word in words or [""] if not addresses.is_word(word)]:
        raise ValidationError(
            f"{unknown[0]!r} is none of loopback, private, public, and no network such as 10.1.0.0/16."
        )


def check_readers(words: Sequence[str]) -> None:
    """Of METRICS_ALLOW."""
    for word in words:
        try:
            ip_network(word)
        except ValueError as error:
            raise ValidationError(f"{error}: it takes networks such as 10.1.0.0/16, and single addresses.") from None


def database(url: str, folder: Path) -> dict[str, Any]:
    """Django's DATABASES entry for `DATABASE_URL`: empty for SQLite in `folder`, or `postgres://…` (pooled)."""
    if url:
        server = env.dj_db_url("DATABASE_URL") if url.startswith(("postgres://", "postgresql://")) else None
        if server is None:
            raise ImproperlyConfigured("DATABASE_URL must begin with postgres://; leave it unset for SQLite.")
        pool = {"min_size": 0, "max_size": 10, "timeout": 30}
        # Checked before use: after a restart of the server the pool holds connections that are dead.
        return {**server, "CONN_HEALTH_CHECKS": True, "OPTIONS": {**server.get("OPTIONS", {}), "pool": pool}}
    return {
        "ENGINE": "config.sqlite3",
        "NAME": folder / "batchdesk.sqlite3",
        # To open the file anew for each request costs more than most requests.
        "CONN_MAX_AGE": None,
        "OPTIONS": {
            # A transaction that reads first and writes later cannot wait for its turn in SQLite; one that
            # takes the write lock at BEGIN can.
            "transaction_mode": "IMMEDIATE",
            "timeout": 30,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA foreign_keys=ON;",
        },
    }
