"""Keeps a few programs running, and takes them down in order. Standard library only, one thread, no state on disk."""

import ctypes
import functools
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

logger = logging.getLogger(__name__)

_SETTLED = 10.0  # a program that lived so many seconds starts again at once
_FIRST_DELAY, _LONGEST_DELAY = 0.25, 15.0
_POLL = 0.1
_FOUNDATION_DRAIN = 5.0
_SAME_SIGNAL = 1.0

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def die_with_parent(parent: int) -> None:
    """To be called in a child: the kernel kills it when the process `parent` is gone, however that ended."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the call
            os._exit(1)


@dataclass(frozen=True)
class Program:
    name: str
    command: Sequence[str]
    environment: Mapping[str, str] | None = None  # None: the supervisor's own
    is_ready: Callable[[], bool] = lambda: True  # the next program starts when this one is
    is_foundation: bool = False  # the others need it: it stops after they have gone


@dataclass
class Child:
    """A program and the process that runs it at the moment, if any."""

    program: Program
    process: "subprocess.Popen[bytes] | None" = None
    started_at: float = 0.0
    due_at: float = 0.0
    quick_deaths: int = 0

    def start(self) -> None:
        self.started_at = time.monotonic()
        self.process = subprocess.Popen(
            self.program.command,
            env=self.program.environment,
            stdin=subprocess.DEVNULL,
            # Of its own, so that Ctrl-C reaches the supervisor alone: RQ drops its job at a second signal.
            process_group=0,
            preexec_fn=functools.partial(die_with_parent, os.getpid()),
        )
        logger.info("%s started (pid %d)", self.program.name, self.process.pid)

    def has_exited(self) -> bool:
        """True once after each death."""
        if self.process is None or self.process.poll() is None:
            return False
        logger.info("%s exited (%s)", self.program.name, _reason(self.process.returncode))
        _kill_group(self.process.pid)  # what it left behind: gunicorn's workers would keep the port
        self.process = None
        return True

    def plan_restart(self) -> None:
        now = time.monotonic()
        if now - self.started_at >= _SETTLED:
            self.quick_deaths, self.due_at = 0, now
            return
        self.due_at = now + min(_LONGEST_DELAY, _FIRST_DELAY * 2**self.quick_deaths)
        self.quick_deaths += 1

    def terminate(self) -> None:
        if self.process is not None:
            self.process.terminate()

    def kill(self) -> None:
        if self.process is not None:
            logger.warning("%s did not stop in time and is killed", self.program.name)
            _kill_group(self.process.pid)


class Supervisor:
    """Starts programs in order, restarts what dies, and lets all of them finish at a signal to stop."""

    def __init__(
        self,
        programs: Sequence[Program],
        *,
        on_ready: Callable[[], None] = lambda: None,
        drain: float = 30.0,
        patience: float = 60.0,
    ) -> None:
        self._waiting = [Child(program) for program in programs]
        self._started: list[Child] = []
        self._on_ready = on_ready
        self._drain_time = drain
        self._patience = patience
        self._stop_signals = 0
        self._last_signal = float("-inf")

    def run(self) -> int:
        """The exit code: 0 after a signal, 1 if a program was not ready within `patience` seconds."""
        with self._signals() as self._wakeup:
            try:
                return self._supervise()
            finally:
                self._drain()

    def _supervise(self) -> int:
        is_announced = False
        while not self._stop_signals:
            for child in self._started:
                if child.has_exited():
                    child.plan_restart()
                if child.process is None and child.due_at <= time.monotonic():
                    child.start()
            if not self._waiting and is_announced:
                self._sleep(self._until_next_restart())
            elif not self._newest_is_ready():
                self._sleep(_POLL)
                if self._is_out_of_patience():
                    return 1
            elif self._waiting:
                self._start_next()
            else:
                is_announced = True
                self._on_ready()
        return 0

    def _start_next(self) -> None:
        self._last_start = time.monotonic()
        child = self._waiting.pop(0)
        child.start()
        self._started.append(child)

    def _newest_is_ready(self) -> bool:
        if not self._started:
            return True
        newest = self._started[-1]
        return newest.process is not None and newest.program.is_ready()

    def _is_out_of_patience(self) -> bool:
        if time.monotonic() - self._last_start < self._patience:
            return False
        logger.error("%s was not ready within %.0f s", self._started[-1].program.name, self._patience)
        return True

    def _until_next_restart(self) -> float | None:
        due = [child.due_at for child in self._started if child.process is None]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _drain(self) -> None:
        others = [child for child in self._started if not child.program.is_foundation]
        foundations = [child for child in self._started if child.program.is_foundation]
        self._stop(others, self._drain_time)
        self._stop(foundations, _FOUNDATION_DRAIN)

    def _stop(self, children: list[Child], seconds: float) -> None:
        """A second signal from an impatient operator ends the wait."""
        deadline = time.monotonic() + seconds
        for child in reversed(children):
            child.terminate()
        while alive := [child for child in children if not child.has_exited() and child.process is not None]:
            if time.monotonic() >= deadline or self._stop_signals > 1:
                for child in alive:
                    child.kill()
            self._sleep(_POLL)

    def _sleep(self, seconds: float | None) -> None:
        """Until a signal comes (a child's death is one) or the time is up."""
        readable, _, _ = select.select([self._wakeup], [], [], seconds)
        if readable and any(number != signal.SIGCHLD for number in self._wakeup.recv(4096)):
            # GNU timeout and systemd send theirs twice: that is no operator losing patience.
            if time.monotonic() - self._last_signal >= _SAME_SIGNAL:
                self._stop_signals += 1
            self._last_signal = time.monotonic()

    @staticmethod
    @contextmanager
    def _signals() -> "Iterator[socket.socket]":
        """A socket that a byte arrives at with each signal: no handler runs code in the middle of ours."""
        reader, writer = socket.socketpair()
        writer.setblocking(False)
        wanted = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
        numbers = [number for number in wanted if signal.getsignal(number) is not signal.SIG_IGN]  # nohup
        with reader, writer:
            before = {number: signal.signal(number, lambda *_: None) for number in numbers}
            signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
            try:
                yield reader
            finally:
                signal.set_wakeup_fd(-1)
                for number, handler in before.items():
                    signal.signal(number, handler)


def _kill_group(leader: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def _reason(returncode: int) -> str:
    return f"status {returncode}" if returncode >= 0 else signal.Signals(-returncode).name
