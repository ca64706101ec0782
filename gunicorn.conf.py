"""Read by gunicorn, which finds it in the folder that it is started in: its lines go the way of all others."""

import resource

from config.settings import LOGGING

logconfig_dict = LOGGING

# A thousand connections, and the files of those at work, are more than the 1,024 that many systems begin with.
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
