"""One request on libcurl's easy handle: how it is set up, and what its end means."""

import re
import socket
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from math import ceil
from time import monotonic
from typing import Any

import pycurl

from config.addresses import Policy

_LARGE_BODY = 64 * 1024
_SHORT = 64 * 1024
_DISALLOW_USERNAME_IN_URL = 278  # libcurl's; pycurl has no name for it
_REQUEST_ID = re.compile(rb"^x-request-id:[ \t]*([!-~]{1,200})[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
_RETRY_AFTER = re.compile(rb"^retry-after:[ \t]*([ -~]{1,100}?)[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)


class Fault(StrEnum):
    """Why there is no whole answer."""

    CONNECT = "connect"  # refused, DNS, TLS, a wrong URL: the upstream did not get the request
    TIMEOUT = "timeout"  # sent, then silence, or too long in all
    RESET = "reset"  # sent, then the connection broke or the answer was cut short
    TOO_LARGE = "too_large"
    UNUSABLE = "unusable"  # not HTTP, or packed in a way that cannot be unpacked


_TLS_FAILURES = {
    pycurl.E_SSL_CONNECT_ERROR,
    pycurl.E_PEER_FAILED_VERIFICATION,
    pycurl.E_SSL_CACERT_BADFILE,
    pycurl.E_SSL_CERTPROBLEM,
    pycurl.E_SSL_CIPHER,
}
_NEVER_SENT = _TLS_FAILURES | {
    pycurl.E_COULDNT_CONNECT,
    pycurl.E_COULDNT_RESOLVE_HOST,
    pycurl.E_COULDNT_RESOLVE_PROXY,
    pycurl.E_URL_MALFORMAT,
    pycurl.E_LOGIN_DENIED,
}
_FAULTS = {
    pycurl.E_OPERATION_TIMEDOUT: Fault.TIMEOUT,
    pycurl.E_GOT_NOTHING: Fault.RESET,
    pycurl.E_PARTIAL_FILE: Fault.RESET,
    pycurl.E_RECV_ERROR: Fault.RESET,
    pycurl.E_SEND_ERROR: Fault.RESET,
    pycurl.E_FILESIZE_EXCEEDED: Fault.TOO_LARGE,
    pycurl.E_WRITE_ERROR: Fault.TOO_LARGE,  # the only write that fails is the one past the cap
}
_BROKEN = {code for code, fault in _FAULTS.items() if fault is Fault.RESET}
_SENTENCES = {
    Fault.CONNECT: "The upstream could not be reached",
    Fault.TIMEOUT: "The upstream did not answer in time",
    Fault.RESET: "The connection to the upstream broke before the whole answer had arrived",
    Fault.UNUSABLE: "The upstream's answer is not usable HTTP",
}


@dataclass(slots=True)
class Answer:
    """What became of one request, R3: `status` 0 and a `fault`, or an HTTP status and the unpacked body.

    `retry_after` is the header as it came. `message` is a sentence for people, empty after a 2xx. `started` is
    monotonic; `seconds` runs from there to the end of the answer.
    """

    tag: Any
    status: int
    body: bytes
    content_type: str
    retry_after: str | None
    request_id: str | None
    fault: Fault | None
    message: str
    started: float
    seconds: float


@dataclass(frozen=True)
class Limits:
    """Times in seconds; the size is that of the unpacked answer.

    Silence ends a request up to six seconds late: libcurl watches the mean speed of the last ones, in whole seconds.
    """

    connect_timeout: float = 10.0
    silence_timeout: float = 300.0
    total_timeout: float = 900.0
    max_answer_bytes: int = 16 * 1024 * 1024
    buffered_bytes: int = 16 * 1024 * 1024  # of all unfinished answers together, but for one and for short ones


class _Lent(socket.socket):
    """pycurl takes a duplicate of its descriptor, and drops it."""

    def __del__(self) -> None:
        self.close()


class Buffer:
    """What unfinished answers may hold in memory together. An answer for which nothing is left is not read on until
    others have ended; one is always read on, so that it ends, and short ones are, so that they need not wait for it."""

    def __init__(self, limit: int) -> None:
        self._left = limit
        self._first: Transfer | None = None
        self._paused: set[Transfer] = set()

    def take(self, transfer: "Transfer", size: int) -> bool:
        if size > self._left and transfer.received + size > _SHORT:
            self._first = self._first or transfer
            if transfer is not self._first:
                self._paused.add(transfer)
                return False
        self._left -= size
        return True

    def give_back(self, transfer: "Transfer", size: int) -> None:
        self._left += size
        if transfer is self._first:
            self._first = None
        if size:
            waiting, self._paused = self._paused, set()
            for other in waiting:
                # If there is nothing for it yet, it pauses again. That it fails by what it brings at once, beyond its
                # cap perhaps, is told in due course, as of any other.
                with suppress(pycurl.error):
                    other.curl.pause(pycurl.PAUSE_CONT)


class Transfer:
    """One easy handle, set up once, and what its present answer has brought so far."""

    def __init__(self, headers: list[bytes], limits: Limits, policy: Policy, buffer: Buffer) -> None:
        self.tag: Any = None
        self.started = 0.0
        self.endpoint = ""
        self.body_size = self.received = 0
        self.insists = False
        self.chunks: list[bytes] = []
        self.head: list[bytes] = []
        self.cap = limits.max_answer_bytes
        self.policy = policy
        self.buffer = buffer
        self.objection: str | None = None
        self.curl = pycurl.Curl()
        self.curl.slot = self
        for option, value in _options(headers, limits).items():
            self.curl.setopt(option, value)
        self.curl.setopt(pycurl.WRITEFUNCTION, self._write)
        self.curl.setopt(pycurl.OPENSOCKETFUNCTION, self._open_socket)
        # The list's own append: no Python frame for each header line; the lines are searched once, at the end.
        self.curl.setopt(pycurl.HEADERFUNCTION, self.head.append)

    def _write(self, chunk: bytes) -> int | None:
        size = len(chunk)
        if self.received + size > self.cap:
            return -1
        if not self.buffer.take(self, size):
            return int(pycurl.WRITEFUNC_PAUSE)
        self.received += size
        self.chunks.append(chunk)
        return None

    def _open_socket(self, _purpose: int, address: Any) -> Any:
        # Not the URL's host, which a name server may answer differently each time: this is what is connected to.
        if objection := self.policy.objection(address.addr[0]):
            self.objection = objection
            return pycurl.SOCKET_BAD
        return _Lent(address.family, address.socktype, address.protocol)

    def load(self, tag: Any, url: str, endpoint: str, body: bytes) -> None:
        if endpoint != self.endpoint:
            self.curl.setopt(pycurl.URL, url.encode())
            self.endpoint = endpoint
        self.curl.setopt(pycurl.POSTFIELDS, body)
        self.tag, self.body_size, self.started = tag, len(body), monotonic()
        self.objection = None

    def met_a_dead_connection(self, code: int) -> bool:
        """Whether a kept-alive connection was closed by the upstream as it was taken up again.

        libcurl sees to most of these itself, but gives up after five dead ones, and on some resets.
        """
        return code in _BROKEN and not self.head and not self.curl.getinfo(pycurl.NUM_CONNECTS)

    def insist_on_a_new_connection(self, yes: bool) -> None:
        self.insists = yes
        self.curl.setopt(pycurl.FRESH_CONNECT, yes)

    def clear(self) -> None:
        self.tag = None
        self.chunks.clear()
        self.buffer.give_back(self, self.received)
        self.received = 0
        self.head.clear()
        if self.insists:
            self.insist_on_a_new_connection(False)
        if self.body_size > _LARGE_BODY:  # an idle handle would hold its last body: 6 MB times the slots
            self.curl.setopt(pycurl.POSTFIELDS, b"")

    def answered(self) -> Answer:
        status: int = self.curl.getinfo(pycurl.RESPONSE_CODE)
        head = b"".join(self.head)
        return Answer(
            tag=self.tag,
            status=status,
            body=b"".join(self.chunks),
            content_type=self.curl.getinfo(pycurl.CONTENT_TYPE) or "",
            retry_after=None if status < 300 else _header(_RETRY_AFTER, head),
            request_id=_header(_REQUEST_ID, head),
            fault=None,
            message="" if 200 <= status < 300 else _sentence(status),
            started=self.started,
            seconds=monotonic() - self.started,
        )

    def failed(self, code: int, detail: str) -> Answer:
        fault = self._fault(code)
        request_id = _header(_REQUEST_ID, b"".join(self.head))
        message = self._told(fault, detail)
        return Answer(self.tag, 0, b"", "", None, request_id, fault, message, self.started, monotonic() - self.started)

    def _told(self, fault: Fault, detail: str) -> str:
        if fault is Fault.TOO_LARGE:
            return f"The upstream's answer is larger than {self.cap} bytes."
        if fault is Fault.CONNECT and self.objection:
            return self.objection
        return f"{_SENTENCES[fault]}: {detail}."

    def _fault(self, code: int) -> Fault:
        # Nothing of the request left: whatever went wrong, it went wrong on the way to the upstream.
        if code in _NEVER_SENT or not self.curl.getinfo(pycurl.REQUEST_SIZE):
            return Fault.CONNECT
        return _FAULTS.get(code, Fault.UNUSABLE)


def request_headers(api_key: str | None) -> list[bytes]:
    # "Expect:" takes the header away: with it, libcurl waits a second before it sends a large body.
    headers = [b"Content-Type: application/json", b"Accept: application/json, text/event-stream", b"Expect:"]
    # A key read from a file ends in a line break, which would end the headers.
    return [*headers, b"Authorization: Bearer " + api_key.strip().encode()] if api_key else headers


def _options(headers: list[bytes], limits: Limits) -> dict[int, Any]:
    return {
        pycurl.POST: 1,
        pycurl.HTTPHEADER: headers,
        pycurl.HTTP_VERSION: pycurl.CURL_HTTP_VERSION_1_1,
        pycurl.PROTOCOLS: pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS,
        pycurl.PROXY: "",  # an empty one also keeps http_proxy of the environment out
        pycurl.FOLLOWLOCATION: 0,
        _DISALLOW_USERNAME_IN_URL: 1,
        pycurl.NOSIGNAL: 1,
        pycurl.TCP_NODELAY: 1,
        pycurl.TCP_KEEPALIVE: 1,
        pycurl.ACCEPT_ENCODING: "",  # all that this libcurl can unpack
        pycurl.MAXFILESIZE_LARGE: limits.max_answer_bytes,
        pycurl.CONNECTTIMEOUT_MS: ceil(limits.connect_timeout * 1000),
        pycurl.TIMEOUT_MS: ceil(limits.total_timeout * 1000),
        pycurl.LOW_SPEED_LIMIT: 1,
        pycurl.LOW_SPEED_TIME: ceil(limits.silence_timeout),
    }


def _header(pattern: re.Pattern[bytes], head: bytes) -> str | None:
    found = pattern.search(head)
    return found[1].decode("ascii") if found else None


def _sentence(status: int) -> str:
    if 300 <= status < 400:
        return f"The upstream answered {status}, a redirect, which is not followed: its URL should be corrected."
    refused = {401: ": it does not accept the API key", 403: ": it forbids this", 429: ": too many requests"}
    return f"The upstream answered {status}{refused.get(status, '')}."
