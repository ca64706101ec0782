"""What is written down of what happens, and what is not."""

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from django.core.exceptions import DisallowedHost
from django.db import IntegrityError, OperationalError
from django.http import HttpRequest
from django.test import Client, RequestFactory
from django.urls import resolve
from redis import RedisError

from config import logs
from tests.log_lines import written
from tests.stack import ROOT

log = logging.getLogger("somebody.of_ours")
SECRET = "what a tenant sent"


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as found:
        return found


def exception(error: BaseException) -> str:
    with written() as found:
        log.error("It failed.", exc_info=error)
    text: str = found.lines[-1]["exception"]
    return text


# ---- a line


def test_a_line_says_when_how_bad_who_and_what() -> None:
    with written() as found:
        log.warning("%d lanes had died.", 2)
    (line,) = found.lines
    assert list(line) == ["timestamp", "level", "logger", "event"]
    assert (line["level"], line["logger"], line["event"]) == ("warning", "somebody.of_ours", "2 lanes had died.")
    assert line["timestamp"].endswith("Z")


def test_what_it_is_about_stands_on_each_until_something_else_is_begun() -> None:
    with written() as found:
        with logs.only_about(request_id="req_1"):
            log.info("one")
            log.info("two", extra={"batch": "batch_1", "lane": "m lane 0"})
        log.info("three")
    assert [line.get("request_id") for line in found.lines] == ["req_1", "req_1", None]
    assert (found.lines[1]["batch"], found.lines[1]["lane"]) == ("batch_1", "m lane 0")


def test_a_field_that_nobody_thought_of_is_not_written() -> None:
    """Libraries give theirs what they have in hand."""
    with written() as found:
        log.info("one", extra={"arguments": SECRET, "body": SECRET})
    assert SECRET not in found.text


def test_at_a_terminal_it_is_one_line_too() -> None:
    with written(logs.LINE) as found:
        log.warning("Somebody sent %s", "a\nb\x1b[31m\u2028c", extra={"batch": "batch_1"})
    assert found.text.count("\n") == 1
    assert "a\\nb\\x1b[31m\\x2028c" in found.text
    assert "batch=batch_1" in found.text


@pytest.mark.parametrize("text", ["\x00", "\n{}", '"', "\x9b31m", "\u2028", "名字"])
def test_json_stays_one_line_whatever_is_said(text: str) -> None:
    """And what is not a terminal's business does not paint one that shows it."""
    with written() as found:
        log.warning("It said: %s", text, extra={"batch": text})
    (line,) = found.lines
    assert line["batch"] == text
    assert len(found.text.splitlines()) == 1
    assert "\x9b" not in found.text


def test_half_a_character_is_written_down_too() -> None:
    # Not by a logger: what the tests' own handlers keep of it cannot be sent between their processes.
    record = logging.LogRecord("x", logging.WARNING, __file__, 1, "It said: %s", ("\ud800",), None)
    line = logs.formatter(logs.JSON).format(record)
    assert json.loads(line)["event"] == "It said: \ud800"
    line.encode()


# ---- exceptions


@pytest.mark.parametrize("error", [ValueError(SECRET), KeyError(SECRET), TypeError(SECRET), AssertionError(SECRET)])
def test_an_exception_that_may_quote_a_tenant_says_where_and_not_what(error: Exception) -> None:
    text = exception(raised(error))
    assert SECRET not in text
    assert "in raised" in text
    assert text.endswith(type(error).__name__)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(28, "No space left on device"), "OSError: [Errno 28] No space left on device"),
        (OperationalError("gone"), "django.db.utils.OperationalError: gone"),
        (RedisError("away"), "redis.exceptions.RedisError: away"),
        (RuntimeError("two results"), "RuntimeError: two results"),
    ],
)
def test_one_that_speaks_of_the_machine_is_heard(error: Exception, told: str) -> None:
    assert exception(raised(error)).endswith(told)


def test_of_what_postgresql_says_only_the_first_line_is_sure_to_quote_no_row() -> None:
    error = IntegrityError(f'new row violates check constraint "x"\nDETAIL:  Failing row contains ({SECRET}).')
    text = exception(raised(error))
    assert SECRET not in text
    assert text.endswith('new row violates check constraint "x"')


def test_causes_are_told_first_and_no_louder() -> None:
    def outer() -> None:
        try:
            int(SECRET)
        except ValueError as error:
            raise RuntimeError("no number") from error

    with pytest.raises(RuntimeError) as caught:
        outer()
    text = exception(caught.value)
    assert SECRET not in text
    assert text.index("ValueError") < text.index("which led to") < text.index("RuntimeError: no number")


def test_causes_that_go_round_in_a_ring_come_to_an_end() -> None:
    one, two = ValueError(), TypeError()
    one.__context__, two.__context__ = two, one
    assert exception(one).count("which led to") == 1


# ---- other people's lines


def test_django_names_the_route_and_not_the_address() -> None:
    request = RequestFactory().get("/v1/batches/sk-a-key-in-the-wrong-place")
    request.resolver_match = resolve(request.path)
    with written() as found:
        logging.getLogger("django.request").error("%s: %s", "Oops", request.path, extra={"request": request})
    assert found.lines[-1]["event"] == "Oops: v1/batches/<str:batch_id>"


def test_a_wrong_host_costs_one_line_and_no_traceback() -> None:
    with written() as found:
        Client().get("/console/login", headers={"Host": "evil.example"})
    (line,) = found.named("django.security.DisallowedHost")
    assert "exception" not in line
    assert "evil.example" in line["event"]


@pytest.mark.parametrize(
    ("event", "told"),
    [
        (
            "Invalid request from ip=::1: Invalid HTTP Header: 'Authorization : Bearer sk-x'",
            "Invalid request from ip=::1: Invalid HTTP Header",
        ),
        (
            "Invalid request from ip=10.0.0.1: No more data after: b'sk-x'",
            "Invalid request from ip=10.0.0.1: No more data after",
        ),
        ("Error handling request GET /console/batches?q=sk-x", "Error handling request"),
        ("Worker (pid:7) was sent SIGKILL!", "Worker (pid:7) was sent SIGKILL!"),
    ],
)
def test_gunicorn_does_not_quote_what_it_could_not_read(event: str, told: str) -> None:
    with written() as found:
        logging.getLogger("gunicorn.error").warning(event)
    assert found.lines[-1]["event"] == told


GUNICORN = """
import logging, sys
from gunicorn.app.wsgiapp import WSGIApplication
sys.argv = ["gunicorn", "config.wsgi"]
app = WSGIApplication()
logger = app.cfg.logger_class(app.cfg)
logger.error("one %s", "line")
logger.info("noise")
"""


def test_gunicorns_lines_go_the_way_of_all_others(tmp_path: Any) -> None:
    """By the file that it finds where it is started."""
    environment = {"DATA_DIR": str(tmp_path), "LOG_FORMAT": "json", "DJANGO_SETTINGS_MODULE": "config.settings"}
    done = subprocess.run([sys.executable, "-c", GUNICORN], cwd=ROOT, env=environment, capture_output=True, text=True)
    (line,) = [json.loads(line) for line in done.stderr.splitlines()]
    assert (line["logger"], line["event"]) == ("gunicorn.error", "one line")


# ---- how much


def levels(level: str) -> Callable[[str], str]:
    configured = logs.configuration(logs.JSON, level)["loggers"]
    return lambda name: str(configured[name]["level"])


@pytest.mark.parametrize("name", ["django.db", "botocore", "urllib3", "gunicorn.error", "django.template"])
def test_debug_never_means_the_values_of_sql_or_whole_requests(name: str) -> None:
    assert levels("DEBUG")(name) == "INFO"


def test_what_libraries_do_all_day_is_not_news() -> None:
    of = levels("INFO")
    assert {of("rq"), of("gunicorn.error")} == {"WARNING"}
    assert of("django.request") == "ERROR"


def test_a_terminal_gets_lines_and_anything_else_json(monkeypatch: pytest.MonkeyPatch) -> None:
    for is_terminal, style in ((True, logs.LINE), (False, logs.JSON)):
        monkeypatch.setattr("sys.stderr.isatty", lambda is_terminal=is_terminal: is_terminal)
        assert logs.configuration(logs.AUTO, "INFO")["formatters"]["one"]["style"] == style


def test_exceptions_of_a_request_that_is_none_do_no_harm() -> None:
    with written() as found:
        log.error("%s %s", "a", "b", extra={"request": HttpRequest()}, exc_info=DisallowedHost("x"))
    assert found.lines[-1]["event"] == "a b"
