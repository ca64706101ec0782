"""Single values of the wire, in and out."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from config.api.errors import BadRequest, InvalidType, InvalidValue, MissingParameter

EXPIRES_AFTER_SECONDS = range(3600, 2_592_001)
IDEMPOTENCY_KEY_LENGTH = 255


def unix(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp())


def required_string(data: Mapping[str, Any], name: str) -> str:
    value = data.get(name)
    if value is None or value == "":
        raise MissingParameter(name)
    if not isinstance(value, str):
        raise InvalidType(name, value, str)
    return value


def integer(value: str, param: str, allowed: range) -> int:
    """From text. `int` alone would take "１٢", "1_0" and 4,000 digits."""
    if re.fullmatch(r"[0-9]{1,18}", value) and int(value) in allowed:
        return int(value)
    raise InvalidValue(param, value, f"integers from {allowed.start} to {allowed.stop - 1}")


def expires_after(anchor: object, seconds: object, param: str) -> int | None:
    """Seconds from creation on, or None for a file that does not expire."""
    if anchor is None and seconds is None:
        return None
    for name, value in (("anchor", anchor), ("seconds", seconds)):
        if value is None:
            raise MissingParameter(f"{param}[{name}]")
    if anchor != "created_at":
        raise InvalidValue(f"{param}[anchor]", anchor, "'created_at'")
    if isinstance(seconds, bool) or not isinstance(seconds, int | str):
        raise InvalidType(f"{param}[seconds]", seconds, int)
    return integer(str(seconds), f"{param}[seconds]", EXPIRES_AFTER_SECONDS)


def expires_after_object(value: object, param: str) -> int | None:
    """The same from a JSON body's `{anchor, seconds}`."""
    if value is None:
        return None
    if not isinstance(value, dict):
        raise InvalidType(param, value, dict)
    # An empty object lacks both its members: None for neither is the form fields' way to say "absent".
    return expires_after(value.get("anchor", ""), value.get("seconds", ""), param)


def idempotency_key(meta: Mapping[str, Any], body_field: object = None) -> str | None:
    """C5: from the header or, where the endpoint has one, the body's field."""
    header = meta.get("HTTP_IDEMPOTENCY_KEY") or None
    if body_field is not None and not isinstance(body_field, str):
        raise InvalidType("idempotency_key", body_field, str)
    if header and body_field and header != body_field:
        raise BadRequest(
            "The Idempotency-Key header and 'idempotency_key' differ.", param="idempotency_key", code="invalid_value"
        )
    key = header or body_field or None
    if key and (len(key) > IDEMPOTENCY_KEY_LENGTH or not key.isprintable()):
        supported = f"up to {IDEMPOTENCY_KEY_LENGTH} printable characters"
        raise InvalidValue("idempotency_key", key, supported)
    return key
