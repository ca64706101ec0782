import os
from collections.abc import Iterable
from typing import Any

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django = get_wsgi_application()

SILENCE_TIMEOUT = 60.0  # seconds without a byte, after which a client is taken for gone


def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    # A thread of gunicorn waits for ever for a client that stalls, and there are only so many threads.
    if socket := environ.get("gunicorn.socket"):
        socket.settimeout(SILENCE_TIMEOUT)
    answer: Iterable[bytes] = django(environ, start_response)
    return answer
