"""The real settings, with less patience: DJANGO_SETTINGS_MODULE names them."""

from config.settings import *  # noqa: F403

LANE_LEASE = 3.0
STAGE_LEASE = 3.0
RECONCILE_INTERVAL = 1.0
