"""What a process of this service logs: lines of JSON, or lines to be read at a terminal.

Who logs uses the standard library. What a line is about (`request_id`, `account`, `batch`, `lane`) is bound once, as
structlog's context variables, and stands on each line from there on. What tenants send and get stands on none.
"""

import json
import logging
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import structlog
from django.db.utils import IntegrityError
from django.http import HttpRequest
from structlog.typing import EventDict, WrappedLogger

from config.outages import DATABASE_AWAY

AUTO, JSON, LINE = FORMATS = ("auto", "json", "line")

# Of `extra`. Nothing else comes along, whatever a library gives its lines.
FIELDS = frozenset({"account", "batch", "lane", "method", "ms", "route", "status"})

# Of other exceptions the message is left out: a ValueError quotes the value, and that may be a tenant's.
SPEAKING = (OSError, RuntimeError, IntegrityError, *DATABASE_AWAY)
SPEAKING_PACKAGES = frozenset({"botocore", "redis"})

_BEYOND_ASCII = (*range(127, 160), 0x2028, 0x2029)  # which JSON lets stand as they are
_CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), *_BEYOND_ASCII)} | {10: "\\n", 13: "\\r"}
_IN_JSON = {code: f"\\u{code:04x}" for code in _BEYOND_ASCII}


def configuration(style: str, level: str) -> dict[str, Any]:
    """Django's LOGGING. `style`: one of FORMATS; AUTO is for lines at a terminal, and JSON anywhere else."""
    if style == AUTO:
        style = LINE if sys.stderr.isatty() else JSON
    quiet = "WARNING" if level == "INFO" else level
    own_way: dict[str, Any] = {"handlers": [], "propagate": True}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"one": {"()": formatter, "style": style}},
        "filters": {"discreet": {"()": Discreet}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "one", "filters": ["discreet"]}},
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": {
            "django": own_way,
            "django.server": own_way,
            # What it says of an answer from 400 to 499 is in the line of the request.
            "django.request": own_way | {"level": "ERROR"},
            # Births and deaths of workers, and every job's start and end: noise at INFO.
            "rq": {"level": quiet},
            "gunicorn.error": own_way | {"level": _no_finer(quiet)},
            "gunicorn.access": own_way | {"level": "WARNING"},
        }
        # At DEBUG these write down SQL with its values, variables of templates, and whole requests with their keys.
        | {name: {"level": _no_finer(level)} for name in ("django.db", "django.template", *_AWS)},
    }


_AWS = ("boto3", "botocore", "s3transfer", "urllib3")


def _no_finer(level: str) -> str:
    return "INFO" if level == "DEBUG" else level


@contextmanager
def only_about(**facts: str) -> Iterator[None]:
    """For what a thread does next: nothing of what it did before is on its lines, and nothing of this on later ones."""
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(**facts)
    try:
        yield
    finally:
        structlog.contextvars.clear_contextvars()


def formatter(style: str) -> logging.Formatter:
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.ExtraAdder(FIELDS),
            structlog.processors.TimeStamper(fmt="iso"),
            told_exception,
        ],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            *([one_line, structlog.dev.ConsoleRenderer(colors=False)] if style == LINE else [as_json]),
        ],
    )


def told_exception(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """`exc_info` as text: where it came from, through all its causes, and the message of those that quote nothing."""
    found = event.pop("exc_info", None)
    error = found[1] if isinstance(found, tuple) else None
    if error is not None:
        event["exception"] = "\n\nwhich led to\n\n".join(_told(one) for one in _first_to_last(error))
    return event


def _first_to_last(error: BaseException) -> list[BaseException]:
    chain: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in chain:
        chain.insert(0, following)
        following = following.__cause__ or (None if following.__suppress_context__ else following.__context__)
    return chain


def _told(error: BaseException) -> str:
    return "".join([*traceback.format_tb(error.__traceback__), ": ".join(_named(error))])


def _named(error: BaseException) -> Iterator[str]:
    kind = type(error)
    yield kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    if isinstance(error, SPEAKING) or kind.__module__.partition(".")[0] in SPEAKING_PACKAGES:
        yield first_line(error)


def first_line(error: BaseException) -> str:
    """PostgreSQL's next ones may have a whole row in them."""
    return str(error).partition("\n")[0].translate(_CONTROL)


def one_line(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """What came from outside may neither begin a line of its own nor paint the terminal."""
    event["event"] = str(event["event"]).translate(_CONTROL)
    return event


def as_json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    first = {name: event.pop(name) for name in ("timestamp", "level", "logger", "event")}
    try:
        return msgspec.json.encode({**first, **event}, enc_hook=str).decode().translate(_IN_JSON)
    except UnicodeEncodeError:  # half a character, which somebody sent to see what becomes of it
        return json.dumps({**first, **event}, default=str)


class Discreet(logging.Filter):
    """Django and gunicorn quote what a stranger sent: an address, a header that is none. Either may hold a key."""

    def filter(self, record: logging.LogRecord) -> bool:
        request = getattr(record, "request", None)
        if isinstance(request, HttpRequest) and isinstance(record.args, tuple):
            record.args = tuple(route_of(request) if one == request.path else one for one in record.args)
        if record.name.startswith("django.security."):
            record.exc_info = None  # where Django noticed it is nobody's news
        if record.name == "gunicorn.error":
            record.msg, record.args = _without_quotes(record), ()
        return True


def route_of(request: HttpRequest) -> str:
    """The pattern that an address fits: what stands in its place is not ours to write down."""
    return request.resolver_match.route if request.resolver_match else ""


def _without_quotes(record: logging.LogRecord) -> str:
    text = record.getMessage()
    if text.startswith("Invalid request from ip="):
        return ": ".join(text.split(": ", 2)[:2])
    return "Error handling request" if text.startswith("Error handling request") else text
