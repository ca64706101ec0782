"""What an installation's processes use: CPU time of those that have ended too, and each one's peak memory."""

import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil

from tests.stack import Stack

_WORDS = {"gunicorn": "web", "lanes": "lanes", "control": "control", "cron": "cron", "up": "up"}
_SAMPLE_EVERY = 0.05
MB = 1_000_000
FLAT = 10  # MB: memory that grows by less does not depend on the size of the work


class Meter:
    """Samples from when it is entered until it is left; `cpu` may be asked at any time, best when jobs are done."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._peaks: dict[int, tuple[str, int]] = {}
        self._stop = threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> "Meter":
        self._sampler.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._sampler.join()

    def cpu(self) -> dict[str, float]:
        """CPU seconds by role since the installation started.

        A child that has ended is in its parent's `children_*`, one that runs is not yet: nothing counts twice.
        """
        spent: defaultdict[str, float] = defaultdict(float)
        for process in self._stack.processes():
            try:
                times = process.cpu_times()
                spent[_role(process)] += times.user + times.system + times.children_user + times.children_system
            except psutil.Error:
                continue
        return dict(spent)

    def peaks(self) -> dict[str, float]:
        """Peak RSS in MB of the largest process of each role; horses (forked workers) on their own."""
        largest: defaultdict[str, float] = defaultdict(float)
        for role, peak in self._peaks.values():
            largest[role] = max(largest[role], peak / MB)
        return dict(largest)

    def _sample(self) -> None:
        while not self._stop.wait(_SAMPLE_EVERY):
            for process in _alive(self._stack):
                peak = _status(process.pid, "VmHWM")
                if process.pid not in self._peaks:
                    self._peaks[process.pid] = (_full_role(process), peak)
                elif peak:  # a zombie has none
                    self._peaks[process.pid] = (self._peaks[process.pid][0], peak)


def difference(after: Mapping[str, float], before: Mapping[str, float]) -> dict[str, float]:
    return {role: spent - before.get(role, 0.0) for role, spent in after.items()}


def largest(peaks: Mapping[str, float]) -> tuple[str, float]:
    return max(peaks.items(), key=lambda peak: peak[1])


def rss_mb(stack: Stack, role: str) -> float:
    """RSS of the largest living process of a role."""
    return max(_status(process.pid, "VmRSS") for process in _alive(stack) if _role(process) == role) / MB


def own_memory_mb(field: str) -> float:
    return _status("self", field) / MB


def reset_own_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _alive(stack: Stack) -> Iterator[psutil.Process]:
    try:
        yield from stack.processes()
    except psutil.Error:
        return


def _role(process: psutil.Process) -> str:
    try:
        command = process.cmdline()
    except psutil.Error:
        return "gone"
    for word, role in _WORDS.items():
        if word in command:
            return role
    return "redis"


def _full_role(process: psutil.Process) -> str:
    role = _role(process)
    if role not in ("lanes", "control"):
        return role
    try:
        parent = process.parent()
    except psutil.Error:
        parent = None
    return f"{role} job" if parent and _role(parent) == role else role


def _status(pid: int | str, field: str) -> int:
    """Bytes; 0 if the process is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:")), 0)
