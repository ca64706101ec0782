"""B3"""

from config.api.errors import BadRequest, InvalidType

PAIRS = 16
KEY_LENGTH = 64
VALUE_LENGTH = 512
NAMED_LENGTHS = {"ds_name": 100, "ds_description": 200}


def read_metadata(value: object) -> dict[str, str] | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise InvalidType("metadata", value, dict)
    if len(value) > PAIRS:
        raise BadRequest(
            f"Invalid 'metadata': too many properties. Expected at most {PAIRS}, but got {len(value)} instead.",
            param="metadata",
            code="object_above_max_properties",
        )
    for name, text in value.items():
        _check_pair(name, text)
    return value


def _check_pair(name: str, text: object) -> None:
    if len(name) > KEY_LENGTH:
        raise _too_long("metadata", f"'metadata': key '{name[:KEY_LENGTH]}…'", KEY_LENGTH, len(name))
    param = f"metadata.{name}"
    if not isinstance(text, str):
        raise InvalidType(param, text, str)
    longest = NAMED_LENGTHS.get(name, VALUE_LENGTH)
    if len(text) > longest:
        raise _too_long(param, f"'{param}': string", longest, len(text))


def _too_long(param: str, what: str, longest: int, length: int) -> BadRequest:
    return BadRequest(
        f"Invalid {what} too long. Expected at most {longest} characters, but got {length} instead.",
        param=param,
        code="string_above_max_length",
    )
