"""Real processes throughout: what is promised here is what the kernel does."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

# Each child is a shell that writes its name and pid down when it starts, and its name again when SIGTERM ends it.
PRELUDE = """
import logging, pathlib, signal, sys
from config import supervisor
from config.supervisor import Program, Supervisor

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # a test run under nohup would have it ignored
logging.basicConfig(stream=sys.stderr, level="INFO", format="%(message)s")
folder = pathlib.Path(sys.argv[1])

def program(name, script='trap "echo stop {name} >> log; exit 0" TERM; while :; do sleep 0.05; done', **options):
    shell = "cd {folder}; echo start {name} $$ >> log; " + script
    command = ["sh", "-c", shell.replace("{name}", name).replace("{folder}", str(folder))]
    return Program(name, command, **options)
"""


class Run:
    """A supervisor in a process of its own, and the log that its children wrote."""

    def __init__(self, folder: Path, script: str) -> None:
        self.log_file = folder / "log"
        self.process = subprocess.Popen(
            [sys.executable, "-c", PRELUDE + script, str(folder)], stderr=subprocess.PIPE, text=True
        )

    @property
    def log(self) -> list[str]:
        return self.log_file.read_text().splitlines() if self.log_file.exists() else []

    def pids(self, name: str) -> list[int]:
        return [int(line.split()[2]) for line in self.log if line.startswith(f"start {name} ")]

    def wait_for(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < deadline, self.log
            time.sleep(0.02)

    def stop(self, signal_number: int = signal.SIGTERM) -> tuple[int, str]:
        self.process.send_signal(signal_number)
        _, errors = self.process.communicate(timeout=10)
        return self.process.returncode, errors


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[[str], Run]]:
    runs: list[Run] = []

    def start(script: str) -> Run:
        runs.append(Run(tmp_path, script))
        return runs[-1]

    yield start
    for started in runs:
        started.process.terminate()
        started.process.communicate(timeout=10)


def is_alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_programs_start_in_order_each_when_the_one_before_is_ready(run: Callable[[str], Run]) -> None:
    started = run("""
waited_for = folder / "ready"
programs = [program("base", is_ready=waited_for.exists), program("web")]
Supervisor(programs, on_ready=lambda: (folder / "all").touch()).run()
""")
    started.wait_for(lambda: started.pids("base"))
    time.sleep(0.3)
    assert not started.pids("web")
    (started.log_file.parent / "ready").touch()
    started.wait_for(lambda: started.pids("web"))
    started.wait_for((started.log_file.parent / "all").exists)


def test_a_killed_child_is_started_again(run: Callable[[str], Run]) -> None:
    started = run('Supervisor([program("worker")]).run()')
    started.wait_for(lambda: started.pids("worker"))
    os.kill(started.pids("worker")[0], signal.SIGKILL)
    started.wait_for(lambda: len(started.pids("worker")) == 2)
    _, errors = started.stop()
    assert "worker exited (SIGKILL)" in errors


def test_a_child_that_keeps_dying_is_started_less_and_less_often(run: Callable[[str], Run]) -> None:
    started = run('Supervisor([program("broken", script="exit 3")]).run()')
    time.sleep(2.5)
    # At 0, 0.25, 0.75, 1.75 s; without a delay it would be hundreds.
    assert 3 <= len(started.pids("broken")) <= 5
    assert "broken exited (status 3)" in started.stop()[1]


def test_a_child_that_lived_a_while_is_started_again_at_once(run: Callable[[str], Run]) -> None:
    started = run("""
supervisor._SETTLED, supervisor._FIRST_DELAY = 0.05, 60
Supervisor([program("worker", script="sleep 0.2")]).run()
""")
    started.wait_for(lambda: len(started.pids("worker")) >= 3)


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_stops_all_and_what_they_need_last(run: Callable[[str], Run], signal_number: int) -> None:
    slow = 'trap "sleep 0.5; echo stop {name} >> log; exit 0" TERM; while :; do sleep 0.05; done'
    started = run(f"""
programs = [program("redis", is_foundation=True), program("worker", script='''{slow}'''), program("web")]
sys.exit(Supervisor(programs).run())
""")
    started.wait_for(lambda: started.pids("web"))
    time.sleep(0.1)  # for the shell to set its trap
    code, _ = started.stop(signal_number)
    assert code == 0
    assert [line for line in started.log if line.startswith("stop")] == ["stop web", "stop worker", "stop redis"]


def test_what_does_not_stop_in_time_is_killed(run: Callable[[str], Run]) -> None:
    started = run("""
stubborn = program("stubborn", script='trap "" TERM; while :; do sleep 0.05; done')
Supervisor([stubborn], drain=0.5).run()
""")
    started.wait_for(lambda: started.pids("stubborn"))
    time.sleep(0.1)
    begun = time.monotonic()
    _, errors = started.stop()
    assert 0.4 < time.monotonic() - begun < 3
    assert "stubborn did not stop in time" in errors
    assert not is_alive(started.pids("stubborn")[0])


def test_a_second_signal_ends_the_wait(run: Callable[[str], Run]) -> None:
    started = run("""
Supervisor([program("stubborn", script='trap "" TERM; while :; do sleep 0.05; done')], drain=60).run()
""")
    started.wait_for(lambda: started.pids("stubborn"))
    started.process.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    started.process.send_signal(signal.SIGTERM)  # a duplicate, as `timeout` sends it
    time.sleep(1.2)
    assert started.process.poll() is None
    assert started.stop()[0] == 0


def test_a_killed_supervisor_leaves_no_child(run: Callable[[str], Run]) -> None:
    started = run('Supervisor([program("one"), program("two")]).run()')
    started.wait_for(lambda: started.pids("two"))
    children = started.pids("one") + started.pids("two")
    started.process.kill()
    started.wait_for(lambda: not any(is_alive(pid) for pid in children))


def test_what_a_dead_child_leaves_behind_is_killed_before_its_restart(run: Callable[[str], Run]) -> None:
    started = run('Supervisor([program("web", script="sleep 77 & echo start left $! >> log; wait")]).run()')
    started.wait_for(lambda: started.pids("left"))
    os.kill(started.pids("web")[0], signal.SIGKILL)
    started.wait_for(lambda: len(started.pids("left")) == 2)
    assert not is_alive(started.pids("left")[0])


def test_a_program_that_is_never_ready_ends_the_run(run: Callable[[str], Run]) -> None:
    started = run("""
sys.exit(Supervisor([program("redis", is_ready=lambda: False)], patience=0.3).run())
""")
    _, errors = started.process.communicate(timeout=10)
    assert started.process.returncode == 1
    assert "redis was not ready within 0 s" in errors
    assert not is_alive(started.pids("redis")[0])


def test_a_signal_while_starting_stops_too(run: Callable[[str], Run]) -> None:
    started = run('sys.exit(Supervisor([program("redis", is_ready=lambda: False)]).run())')
    started.wait_for(lambda: started.pids("redis"))
    time.sleep(0.1)
    assert started.stop()[0] == 0
    assert started.log[-1] == "stop redis"
