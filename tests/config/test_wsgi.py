import subprocess
import sys

PROGRAM = """
import gc, sys
import config.wsgi
print(gc.get_freeze_count(), "config.urls" in sys.modules, "batches_app.console.batch_list" in sys.modules)
"""


def test_the_collector_goes_through_nothing_that_was_loaded_at_the_start() -> None:
    said = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout.split()
    assert int(said[0]) > 50_000
    assert said[1:] == ["True", "True"]
