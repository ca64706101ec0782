import os
import subprocess
import sys
from pathlib import Path

import pytest

from config.env import BASE_DIR, kept_secret


@pytest.mark.parametrize(
    ("name", "value"), [("LANE_PERMITS", "many"), ("DATABASE_URL", "mysql://x/y"), ("STORAGE_URL", "ftp://x")]
)
def test_a_wrong_value_stops_the_start_with_a_sentence(tmp_path: Path, name: str, value: str) -> None:
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "config.settings", "DATA_DIR": str(tmp_path), name: value}
    command = [sys.executable, "manage.py", "check"]
    done = subprocess.run(command, cwd=BASE_DIR, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert name in done.stderr
    assert "Traceback" not in done.stderr


def test_a_secret_is_made_once_and_is_its_owners_alone(tmp_path: Path) -> None:
    kept_in = tmp_path / "key"
    first = kept_secret(kept_in)
    assert len(first) > 40
    assert kept_secret(kept_in) == first
    assert kept_in.stat().st_mode & 0o077 == 0
    assert list(tmp_path.iterdir()) == [kept_in]
