"""Read by gunicorn, which finds it in the folder that it is started in: its lines go the way of all others."""

from config.settings import LOGGING

logconfig_dict = LOGGING
