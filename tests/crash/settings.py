"""The real settings, with crash points in every process, and less patience: DJANGO_SETTINGS_MODULE names them."""

from config.settings import *  # noqa: F403
from config.settings import INSTALLED_APPS

INSTALLED_APPS += ["tests.crash.apps.CrashPoints"]
LANE_LEASE = 3.0
STAGE_LEASE = 3.0
FLUSH_INTERVAL = 0.2
RECONCILE_INTERVAL = 1.0
CANCEL_GRACE = 0.5
