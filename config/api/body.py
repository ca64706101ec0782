"""The body of a request as a stream: of any length (also `Transfer-Encoding: chunked`, which Django cannot read),
never taken for whole when the client went away half-way, and never larger than its reader allows."""

from typing import Any

from config.api.errors import ApiError, BadRequest

CHUNKED = "chunked"
DIGITS = 19


class Body:
    def __init__(self, environ: dict[str, Any]) -> None:
        if environ.get("HTTP_TRANSFER_ENCODING", CHUNKED).strip().lower() != CHUNKED:
            # gunicorn takes gzip for granted, and would give us bytes that nobody has unpacked.
            raise BadRequest(f"The only Transfer-Encoding that is supported is {CHUNKED}.")
        self._input = environ["wsgi.input"]
        self.length = declared_length(environ)
        self.received = 0
        self._limit: int | None = None
        self._too_large: ApiError | None = None

    def limit(self, size: int, error: ApiError) -> None:
        """Raises `error`: at once where the declared length shows it, else as soon as more has come."""
        if self.length is not None and self.length > size:
            raise error
        self._limit, self._too_large = size, error

    def read(self, size: int) -> bytes:
        wanted = size if self.length is None else min(size, self.length - self.received)
        if wanted <= 0:
            return b""
        try:
            data: bytes = self._input.read(wanted)
        except Exception as error:  # each WSGI server has exceptions of its own for a client that left
            raise BadRequest("The request body could not be read to its end.") from error
        self.received += len(data)
        if not data and self.length is not None:
            raise BadRequest("The request body ended before its Content-Length.")
        if self._limit is not None and self.received > self._limit and self._too_large:
            raise self._too_large
        return data

    def read_all(self) -> bytes:
        """Only for a body with a limit."""
        assert self._limit is not None
        return b"".join(iter(lambda: self.read(64 * 1024), b""))


def declared_length(environ: dict[str, Any]) -> int | None:
    """None for a chunked body, whose end only its reader finds."""
    if environ.get("HTTP_TRANSFER_ENCODING") and environ.get("wsgi.input_terminated"):
        return None
    length = environ.get("CONTENT_LENGTH") or "0"
    # The server has read the header already: this is for what calls the application without one. The first digits
    # of more than 18 are enough for every limit.
    return int(length[:DIGITS]) if length.isascii() and length.isdigit() else 0
