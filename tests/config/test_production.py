"""What an installation that others can reach does not start with, and what it says of HTTPS."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from config.env import BASE_DIR
from config.production import faults, is_production
from tests.tenants import Tenant, error_of

GOOD_KEY = "74ac56c0b794e4b2441b8d86d736352d"
REACHED = {"ALLOWED_HOSTS": "localhost, batch.example.com"}
BEHIND_TLS = REACHED | {"HTTPS": "true", "TRUSTED_PROXIES": "1"}


def manage(folder: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    unset = ("DATABASE_URL", "REDIS_URL", "SECRET_KEY", "DEBUG", "HTTPS", "ALLOWED_HOSTS", "TRUSTED_PROXIES")
    inherited = {name: value for name, value in os.environ.items() if name not in unset}
    own = {"DJANGO_SETTINGS_MODULE": "config.settings", "DATA_DIR": str(folder)}
    command = [sys.executable, "manage.py", *arguments]
    return subprocess.run(command, cwd=BASE_DIR, env=inherited | own | environment, capture_output=True, text=True)


# What starts


@pytest.mark.parametrize("hosts", [["localhost", "127.0.0.1", "[::1]"], ["a.localhost", ".localhost"], []])
def test_names_of_this_machine_are_no_production(hosts: list[str]) -> None:
    assert not is_production(hosts)


@pytest.mark.parametrize("host", ["batch.example.com", "*", "10.0.0.1", "0.0.0.0", "localhost.example.com"])
def test_any_other_name_is(host: str) -> None:
    assert is_production(["localhost", host])


@pytest.mark.once
@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"DEBUG": "true"}, "DEBUG shows every visitor what is in memory: unset it."),
        ({"DATABASE_URL": "postgres://me:x7Hq2v@db/n"}, "SECRET_KEY is not set, and machines that share a database"),
        ({"SECRET_KEY": "changeme"}, "SECRET_KEY can be guessed"),
        ({"REDIS_URL": "redis://:redis@cache/0"}, "REDIS_URL has a default password: choose another."),
    ],
)
def test_production_does_not_start_with_it(tmp_path: Path, environment: dict[str, str], sentence: str) -> None:
    refused = manage(tmp_path, "check", **environment, **REACHED)
    assert refused.returncode == 1
    assert refused.stderr.startswith("ALLOWED_HOSTS names more than this machine. ")
    assert sentence in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


@pytest.mark.once
def test_this_machine_may_have_all_of_it(tmp_path: Path) -> None:
    lax = {"DEBUG": "true", "SECRET_KEY": "changeme", "REDIS_URL": "redis://:redis@cache/0"}
    assert manage(tmp_path, "check", **lax).returncode == 0


def told(**facts: Any) -> list[str]:
    usual: dict[str, Any] = {"debug": False, "secret_key": GOOD_KEY, "kept_key": Path("kept"), "urls": {}}
    return list(faults(**(usual | facts)))


@pytest.mark.parametrize("key", ["x" * 31, "ab" * 40, "django-insecure-" + GOOD_KEY])
def test_a_key_that_can_be_guessed(key: str) -> None:
    assert "can be guessed" in told(secret_key=key)[0]


def test_a_key_that_was_made_here_will_do_for_one_machine() -> None:
    assert told(secret_key="") == []
    assert told(secret_key=GOOD_KEY, urls={"DATABASE_URL": "postgres://me:x7Hq2v@db/n"}) == []


@pytest.mark.parametrize(
    "credentials",
    ["user:password", "postgres:postgres", "me:Me", "me:changeme", "me:batchdesk", "me:%70assword", ":redis"],
)
def test_passwords_of_examples_and_those_that_everybody_tries(credentials: str) -> None:
    assert told(urls={"DATABASE_URL": f"postgres://{credentials}@db/name"}) == [
        "DATABASE_URL has a default password: choose another."
    ]


@pytest.mark.parametrize(
    "url", ["postgres://db/name", "postgres://me@db/name", "redis://127.0.0.1:6379/0", "unix:///x.sock"]
)
def test_where_there_is_no_password_none_is_judged(url: str) -> None:
    assert told(urls={"REDIS_URL": url}) == []


@pytest.mark.once
def test_others_do_not_reach_debug_by_the_port_either(tmp_path: Path) -> None:
    """ALLOWED_HOSTS is no hindrance: a Host header is what the client says."""
    refused = manage(tmp_path, "up", "--host", "0.0.0.0", DEBUG="true")
    assert refused.returncode == 1
    assert "DEBUG is for this machine alone" in refused.stderr
    assert "Traceback" not in refused.stderr


# HTTPS


@pytest.mark.once
def test_check_deploy_is_clean_behind_a_proxy_that_speaks_tls(tmp_path: Path) -> None:
    done = manage(tmp_path, "check", "--deploy", "--fail-level", "WARNING", **BEHIND_TLS)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "System check identified no issues (4 silenced).\n"


@pytest.mark.once
def test_check_deploy_says_what_to_set_where_it_is_not(tmp_path: Path) -> None:
    done = manage(tmp_path, "check", "--deploy", **REACHED)
    assert "Let a proxy speak TLS and set HTTPS=true" in done.stderr
    assert "Let a proxy" not in manage(tmp_path, "check", **REACHED).stderr


@pytest.fixture
def behind_tls(settings: Any) -> None:
    """As the settings have it with HTTPS=true and TRUSTED_PROXIES=1."""
    settings.HTTPS = settings.SECURE_SSL_REDIRECT = True
    settings.SESSION_COOKIE_SECURE = settings.CSRF_COOKIE_SECURE = True
    settings.SECURE_HSTS_SECONDS = 31_536_000
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")


@pytest.mark.once
def test_the_settings_of_https_come_from_one(tmp_path: Path) -> None:
    names = "SECURE_SSL_REDIRECT SESSION_COOKIE_SECURE CSRF_COOKIE_SECURE SECURE_HSTS_SECONDS SECURE_PROXY_SSL_HEADER"
    code = f"from django.conf import settings; print([getattr(settings, name) for name in {names.split()}])"
    printed = {
        name: manage(tmp_path, "shell", "-v", "0", "-c", code, **environment).stdout.strip()
        for name, environment in {
            "tls": BEHIND_TLS,
            "own": {"HTTPS": "true"},
            "plain": {"TRUSTED_PROXIES": "1"},
        }.items()
    }
    assert printed == {
        "tls": "[True, True, True, 31536000, ('HTTP_X_FORWARDED_PROTO', 'https')]",
        "own": "[True, True, True, 31536000, None]",
        "plain": "[False, False, False, 0, None]",
    }


@pytest.mark.django_db
@pytest.mark.usefixtures("behind_tls")
def test_a_page_in_the_clear_is_asked_for_again_with_tls() -> None:
    answer = Client().get("/console/login")
    assert (answer.status_code, answer["Location"]) == (301, "https://testserver/console/login")
    secure = Client(headers={"X-Forwarded-Proto": "https"}).get("/console/login")
    assert secure.status_code == 200
    assert secure["Strict-Transport-Security"] == "max-age=31536000"
    assert secure.cookies["csrftoken"]["secure"]


@pytest.mark.django_db
@pytest.mark.usefixtures("behind_tls")
def test_a_key_in_the_clear_is_refused_and_not_sent_elsewhere() -> None:
    """An SDK follows a redirect, with its key, each time."""
    tenant = Tenant("acme")
    error = error_of(tenant.get("models"), 400)
    assert "https://" in error["message"]
    assert tenant.get("models", None, **{"X-Forwarded-Proto": "https"}).status_code == 200


@pytest.mark.django_db
@pytest.mark.usefixtures("behind_tls")
def test_a_form_of_the_own_site_is_taken_without_another_setting() -> None:
    client = Client(enforce_csrf_checks=True, headers={"X-Forwarded-Proto": "https", "Host": "testserver"})
    client.get("/console/login")
    form = {"username": "x", "password": "x", "csrfmiddlewaretoken": client.cookies["csrftoken"].value}
    for origin, status in (("https://testserver", 200), ("http://testserver", 403), ("https://evil.example", 403)):
        assert client.post("/console/login", form, headers={"Origin": origin}).status_code == status, origin


@pytest.mark.usefixtures("behind_tls")
def test_what_watches_over_the_process_asks_past_the_proxy() -> None:
    assert Client().get("/healthz").status_code == 200
