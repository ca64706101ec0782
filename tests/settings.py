"""The real settings on a data folder of the run's own; on PostgreSQL with TEST_DATABASE=postgres."""

import atexit
import os
import shutil
import tempfile

# One for each process: two of xdist's workers would find each other's files.
os.environ["DATA_DIR"] = tempfile.mkdtemp(prefix="batchdesk-test-")
if os.environ.get("TEST_DATABASE") == "postgres" and not os.environ.get("DATABASE_URL"):
    from tests import postgres

    # In the environment, so that xdist's workers share the one server.
    os.environ["DATABASE_URL"] = postgres.start()

from config.settings import *  # noqa: F403
from config.settings import DATA_DIR, DATABASES, RQ_QUEUES

atexit.register(shutil.rmtree, DATA_DIR, ignore_errors=True)
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    # A file, not memory: threads and child processes must see it, with the locks of the real thing.
    DATABASES["default"]["TEST"] = {"NAME": DATA_DIR / f"test-{os.getpid()}.sqlite3"}
# Nobody answers there: a Redis that happens to run on this machine is not the tests'. Those that want one start it.
REDIS_URL = "redis://127.0.0.1:1/0"
for queue in RQ_QUEUES.values():
    queue["URL"] = REDIS_URL
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # fast; the tests' operators have nothing to hide
