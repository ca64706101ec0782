import os
import subprocess
import sys
from pathlib import Path

import pytest
from environs import FileAwareEnv

from config.env import BASE_DIR, email, kept_secret


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LANE_PERMITS", "many"),
        ("DATABASE_URL", "mysql://x/y"),
        ("STORAGE_URL", "ftp://x"),
        ("EMAIL_URL", "mail.example.com:25"),
        ("EMAIL_URL", "smtp://mail.example.com:smtp"),
        ("UPSTREAM_ADDRESSES", "public,10.1.2.3/16"),
        ("UPSTREAM_ADDRESSES", ""),
        ("METRICS_ALLOW", "10.1.2.3/16"),
        ("METRICS_ALLOW", "prometheus"),
        ("LOG_FORMAT", "xml"),
    ],
)
def test_a_wrong_value_stops_the_start_with_a_sentence(tmp_path: Path, name: str, value: str) -> None:
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "config.settings", "DATA_DIR": str(tmp_path), name: value}
    command = [sys.executable, "manage.py", "check"]
    done = subprocess.run(command, cwd=BASE_DIR, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert name in done.stderr
    assert "Traceback" not in done.stderr


def test_mail_goes_where_the_url_says_and_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "smtp://me:p%40ss@mail.example.com:587?tls=true"
    monkeypatch.setenv("EMAIL_URL", url)
    monkeypatch.setattr("config.env.env", FileAwareEnv(eager=False))  # the settings' own is sealed
    found = email(url)
    assert found["EMAIL_BACKEND"] == "django.core.mail.backends.smtp.EmailBackend"
    assert (found["EMAIL_HOST"], found["EMAIL_PORT"], found["EMAIL_USE_TLS"]) == ("mail.example.com", 587, True)
    assert (found["EMAIL_HOST_USER"], found["EMAIL_HOST_PASSWORD"]) == ("me", "p@ss")
    assert found["EMAIL_TIMEOUT"] == 5


def test_without_a_url_no_mail_is_sent() -> None:
    assert email("") == {"EMAIL_BACKEND": "django.core.mail.backends.dummy.EmailBackend"}


def test_a_secret_is_made_once_and_is_its_owners_alone(tmp_path: Path) -> None:
    kept_in = tmp_path / "key"
    first = kept_secret(kept_in)
    assert len(first) > 40
    assert kept_secret(kept_in) == first
    assert kept_in.stat().st_mode & 0o077 == 0
    assert list(tmp_path.iterdir()) == [kept_in]
