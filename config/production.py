"""What must not be where others come by: said as the settings are read, and nothing starts.

An installation is in production as soon as ALLOWED_HOSTS names more than this machine.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from django.contrib.auth.password_validation import CommonPasswordValidator

_THIS_MACHINE = {"localhost", ".localhost", "127.0.0.1", "[::1]", "::1"}
_SHORTEST_KEY = 32  # characters
_OF_EXAMPLES = {"batchdesk", "postgres", "postgresql", "redis", "valkey", "change-me", "changeme", "example"}


def is_production(allowed_hosts: Iterable[str]) -> bool:
    return any(host not in _THIS_MACHINE and not host.endswith(".localhost") for host in allowed_hosts)


def faults(*, debug: bool, secret_key: str, kept_key: Path, urls: Mapping[str, str]) -> Iterator[str]:
    """Sentences. `secret_key`: as it was given, empty where it was made here and kept in `kept_key`. `urls`: by the
    name of their setting."""
    if debug:
        yield "DEBUG shows every visitor what is in memory: unset it."
    if not secret_key and urls.get("DATABASE_URL"):
        yield (
            "SECRET_KEY is not set, and machines that share a database must share it too: set it to the same value on "
            f"each, such as the one that is in {kept_key} here."
        )
    elif secret_key and _is_guessable(secret_key):
        yield (
            f"SECRET_KEY can be guessed: it needs at least {_SHORTEST_KEY} random characters, such as those that "
            "`openssl rand -hex 32` prints."
        )
    yield from (f"{name} has a default password: choose another." for name, url in urls.items() if _is_default(url))


def _is_guessable(key: str) -> bool:
    return len(key) < _SHORTEST_KEY or len(set(key)) < 8 or key.startswith("django-insecure-")


def _is_default(url: str) -> bool:
    parts = urlsplit(url)
    if not parts.password:
        return False
    password = unquote(parts.password).casefold()
    named_after = {unquote(parts.username or "").casefold(), *_OF_EXAMPLES}
    return password in named_after or password in CommonPasswordValidator().passwords
