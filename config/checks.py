"""What `check --deploy` has to say beyond Django's own: in the words of our settings."""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Warning

HTTPS_OFF = "Passwords, sessions and keys travel in the clear."
HTTPS_HINT = "Let a proxy speak TLS and set HTTPS=true and TRUSTED_PROXIES. That cures security.W004 to W016 too."


def check_https(**_: Any) -> list[CheckMessage]:
    return [] if settings.HTTPS else [Warning(HTTPS_OFF, hint=HTTPS_HINT, id="batchdesk.W004")]
