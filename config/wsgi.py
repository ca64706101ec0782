import gc
import os
from importlib import import_module

from django.conf import settings
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
application = get_wsgi_application()

import_module(settings.ROOT_URLCONF)  # else the first request would do it
gc.collect()
gc.freeze()  # what is loaded stays: to go through all of it now and then took the request of that moment 50 ms
