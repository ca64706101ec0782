"""`python -m bench.slow_clients PORT KEY FILE_ID …`: clients that take their time, until they are ended. Prints READY.

With each key, uploads of 500 MB at 1 MB/s and downloads that nobody reads; beside them connections that say nothing,
and headers that come a byte at a time. The service ends both after 10 s: each comes again before.
"""

import socket
import sys
import time
from collections import deque
from contextlib import suppress

SILENT, SLOWLORIS = 1_000, 100
UPLOADS, DOWNLOADS = 4, 2  # of each key
TICK = 0.1  # seconds
TICKS = 80  # after which a connection comes again
PIECE = b"x" * 100_000  # 1 MB/s
READY = "ready"
_UPLOAD = (
    "POST /v1/files HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nContent-Length: 500000000\r\n"
    "Content-Type: multipart/form-data; boundary=x\r\n\r\n"
    '--x\r\nContent-Disposition: form-data; name="file"; filename="slow.jsonl"\r\n\r\n'
)
_DOWNLOAD = "GET /v1/files/{}/content HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\r\n"


class Crowd:
    def __init__(self, port: int, size: int, said: str = "") -> None:
        self._address, self._said = ("127.0.0.1", port), said
        self._sockets = deque(self._connected() for _ in range(size))

    def feed(self, piece: bytes, share: float = 1.0) -> None:
        for _ in range(int(len(self._sockets) * share)):
            with suppress(OSError):  # it takes no more for now, or ever
                self._sockets[0].send(piece)
            self._sockets.rotate(-1)

    def renew(self) -> None:
        """One of `TICKS` shares."""
        for _ in range(len(self._sockets) // TICKS + 1):
            self._sockets.popleft().close()
            self._sockets.append(self._connected())

    def _connected(self) -> socket.socket:
        connected = socket.create_connection(self._address)
        connected.sendall(self._said.encode())
        connected.setblocking(False)
        return connected


def main() -> None:
    port, tenants = int(sys.argv[1]), list(zip(sys.argv[2::2], sys.argv[3::2], strict=True))
    uploads = [Crowd(port, UPLOADS, _UPLOAD.format(key)) for key, _ in tenants]
    downloads = [Crowd(port, DOWNLOADS, _DOWNLOAD.format(file_id, key)) for key, file_id in tenants]
    silent, slowloris = Crowd(port, SILENT), Crowd(port, SLOWLORIS, "GET /v1/models HTTP/1.1\r\n")
    print(READY, flush=True)
    while downloads:
        start = time.monotonic()
        for upload in uploads:
            upload.feed(PIECE)
        slowloris.feed(b"x", share=TICK)
        silent.renew()
        slowloris.renew()
        time.sleep(max(0.0, TICK - (time.monotonic() - start)))


if __name__ == "__main__":
    main()
