import os
import time
from collections.abc import Iterable, Iterator
from typing import Any

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django = get_wsgi_application()

SILENCE_TIMEOUT = 60.0  # seconds without a byte, after which a client is taken for gone
LINGER_SECONDS = 5.0
LINGER_BYTES = 1024 * 1024 * 1024


def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    # A thread of gunicorn waits for ever for a client that stalls, and there are only so many threads.
    if socket := environ.get("gunicorn.socket"):
        socket.settimeout(SILENCE_TIMEOUT)
    answer = django(environ, start_response)
    has_body = environ.get("CONTENT_LENGTH", "0") != "0" or "HTTP_TRANSFER_ENCODING" in environ
    if not has_body or isinstance(answer, environ.get("wsgi.file_wrapper", ())):
        return answer
    return Lingering(answer, environ)


class Lingering:
    """An answer that may be given before the request's body was read (F8, a wrong key …).

    To close the connection then resets it while the client is still sending, and most clients never look at
    the answer. So, once the answer is sent, the rest is read and thrown away, for a while.
    """

    def __init__(self, answer: Iterable[bytes], environ: dict[str, Any]) -> None:
        self._answer = answer
        self._environ = environ

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._answer)

    def close(self) -> None:
        if hasattr(self._answer, "close"):
            self._answer.close()
        deadline, drained = time.monotonic() + LINGER_SECONDS, 0
        body, socket = self._environ["wsgi.input"], self._environ.get("gunicorn.socket")
        while drained < LINGER_BYTES and (left := deadline - time.monotonic()) > 0:
            if socket:
                socket.settimeout(left)
            try:
                data = body.read(1024 * 1024)
            except Exception:  # each WSGI server has its own; whatever it is, nobody is left to be told
                return
            if not data:
                return
            drained += len(data)
