"""The impatient settings, with crash points in every process: DJANGO_SETTINGS_MODULE names them."""

from tests.impatient import *  # noqa: F403
from tests.impatient import INSTALLED_APPS

INSTALLED_APPS += ["tests.crash.apps.CrashPoints"]
FLUSH_INTERVAL = 0.2
CANCEL_GRACE = 0.5
