#!/usr/bin/env python
import os
import sys

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    try:
        # Read here, where a wrong value is one sentence: Django would go on, and fail with a traceback later.
        _ = settings.DATA_DIR
    except (ImproperlyConfigured, ValueError) as error:
        sys.exit(str(error))
    execute_from_command_line(sys.argv)
