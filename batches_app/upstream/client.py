import select
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, Protocol
from urllib.parse import urlsplit

import pycurl

from batches_app.upstream.transfers import Answer, Buffer, Fault, Limits, Transfer, request_headers
from config.addresses import Policy

__all__ = ["Answer", "CurlClient", "Fault", "Limits", "Transport"]

_SHORTEST_SECRET = 8  # characters; "EMPTY" is what many send to a vLLM that asks for no key

_EVENTS = {
    pycurl.POLL_IN: select.EPOLLIN,
    pycurl.POLL_OUT: select.EPOLLOUT,
    pycurl.POLL_INOUT: select.EPOLLIN | select.EPOLLOUT,
}


class Transport(Protocol):
    @property
    def in_flight(self) -> int: ...

    def send(self, tag: Any, endpoint: str, body: bytes, stream: bool) -> None: ...

    def poll(self, timeout: float) -> list[Answer]: ...

    def abort(self, doomed: Callable[[Any], bool]) -> list[Any]: ...

    def close(self) -> None: ...


class CurlClient:
    """Up to `slots` requests at once to one upstream, over kept-alive connections; R4's judgement is the caller's.

    libcurl's event interface with epoll, not its `select`: pycurl's calls select(2), which does not see a descriptor
    above 1023 and returns at once when nothing is in flight. Either turns a waiting loop into a busy one.
    """

    def __init__(
        self, *, url: str, api_key: str | None, slots: int, limits: Limits, policy: Policy | None = None
    ) -> None:
        self._base = base_of(url)
        self._secrets = secrets_of(url, api_key)
        self._headers = request_headers(api_key)
        self._limits, self._slots, self._policy = limits, slots, policy or Policy()
        self._buffer = Buffer(limits.buffered_bytes)
        self._idle: list[Transfer] = []
        self._busy: set[Transfer] = set()
        self._timer: float | None = None
        self._epoll = select.epoll()
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_MAX_TOTAL_CONNECTIONS, slots)
        self._multi.setopt(pycurl.M_MAXCONNECTS, slots)
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)

    @property
    def in_flight(self) -> int:
        return len(self._busy)

    def send(self, tag: Any, endpoint: str, body: bytes, stream: bool) -> None:
        """Starts a POST of `body` to `endpoint`, such as /v1/chat/completions; it leaves at the next `poll`.

        Raises RuntimeError where all slots are in flight. `stream` (R2) lies in the body; the answer is gathered whole.
        """
        if len(self._busy) >= self._slots:
            raise RuntimeError(f"All {self._slots} slots are in flight.")
        slot = self._idle.pop() if self._idle else Transfer(self._headers, self._limits, self._policy, self._buffer)
        slot.load(tag, self._base + endpoint, endpoint, body)
        self._busy.add(slot)
        self._multi.add_handle(slot.curl)

    def poll(self, timeout: float) -> list[Answer]:
        """Waits at most `timeout` seconds, less as soon as a request has finished; sleeps if none is in flight."""
        deadline = monotonic() + timeout
        while True:
            self._run_timer()
            answers = self._collect()
            if not answers:
                self._wait(deadline - monotonic())
                answers = self._collect()
            if answers or monotonic() >= deadline:
                return answers

    def abort(self, doomed: Callable[[Any], bool]) -> list[Any]:
        """Drops the requests whose tag is `doomed`, closing their connections; returns these tags."""
        slots = [slot for slot in self._busy if doomed(slot.tag)]
        tags = [slot.tag for slot in slots]
        for slot in slots:
            self._release(slot)
        return tags

    def close(self) -> None:
        if self._multi.closed:
            return
        self.abort(lambda _: True)
        for slot in self._idle:
            slot.curl.close()
        self._multi.close()
        self._epoll.close()

    def _run_timer(self) -> None:
        if self._timer is not None and self._timer <= monotonic():
            self._timer = None
            self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)

    def _wait(self, seconds: float) -> None:
        if self._timer is not None:
            seconds = min(seconds, self._timer - monotonic())
        for descriptor, events in self._epoll.poll(max(0.0, seconds)):
            self._multi.socket_action(descriptor, _bitmask(events))

    def _collect(self) -> list[Answer]:
        answers: list[Answer] = []
        waiting = 1 if self._busy else 0
        while waiting:
            waiting, done, failed = self._multi.info_read(self._slots)
            answers += [self._finish(curl.slot) for curl in done]
            for curl, code, detail in failed:
                if curl.slot.met_a_dead_connection(code):
                    self._send_again(curl.slot)
                else:
                    answers.append(self._finish(curl.slot, code, detail))
        return answers

    def _finish(self, slot: Transfer, code: int = pycurl.E_OK, detail: str = "") -> Answer:
        if code == pycurl.E_OK:
            answer = slot.answered()
            self._take_out_secrets(answer)
        else:
            answer = slot.failed(code, redacted(detail, self._secrets))
        self._release(slot)
        return answer

    def _take_out_secrets(self, answer: Answer) -> None:
        """Some upstreams repeat the key that they refuse, and a refusal may become a line that tenants read."""
        if answer.status < 300:
            return
        for secret in self._secrets:
            if len(secret) >= _SHORTEST_SECRET:
                answer.body = answer.body.replace(secret.encode(), "…".encode())

    def _send_again(self, slot: Transfer) -> None:
        self._multi.remove_handle(slot.curl)
        slot.insist_on_a_new_connection(True)
        self._multi.add_handle(slot.curl)

    def _release(self, slot: Transfer) -> None:
        self._multi.remove_handle(slot.curl)
        slot.clear()
        self._busy.remove(slot)
        self._idle.append(slot)

    def _watch(self, what: int, descriptor: int, _multi: Any, _data: Any) -> None:
        if what == pycurl.POLL_REMOVE:
            self._forget(descriptor)
            return
        try:
            self._epoll.modify(descriptor, _EVENTS[what])
        except FileNotFoundError:
            self._epoll.register(descriptor, _EVENTS[what])

    def _forget(self, descriptor: int) -> None:
        try:
            self._epoll.unregister(descriptor)
        except OSError:  # already closed, and so gone from epoll
            return

    def _set_timer(self, milliseconds: int) -> None:
        self._timer = None if milliseconds < 0 else monotonic() + milliseconds / 1000


def base_of(url: str) -> str:
    """What an endpoint, such as /v1/embeddings, is appended to."""
    return url.rstrip("/").removesuffix("/v1")


def redacted(text: str, secrets: Sequence[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, "…")
    return text.rstrip(". ")


def secrets_of(url: str, api_key: str | None) -> list[str]:
    try:
        password = urlsplit(url).password
    except ValueError:  # not a URL at all: libcurl says so, in an Answer
        password = None
    return [secret.strip() for secret in (api_key, password) if secret and secret.strip()]


def _bitmask(events: int) -> int:
    mask = 0
    if events & select.EPOLLIN:
        mask |= pycurl.CSELECT_IN
    if events & select.EPOLLOUT:
        mask |= pycurl.CSELECT_OUT
    if events & (select.EPOLLERR | select.EPOLLHUP):
        mask |= pycurl.CSELECT_ERR
    return mask
