import pytest

from config import request_heads
from config.request_heads import Head

MOST = 1_000
KEY = b"Authorization: Bearer sk-a\r\n"


def head(found: bytes) -> Head:
    told = request_heads.read(found, MOST)
    assert told is not None
    return told


def request(line: bytes = b"POST /v1/batches HTTP/1.1", headers: bytes = b"", body: bytes = b"") -> bytes:
    return line + b"\r\nHost: x\r\n" + headers + b"\r\n" + body


@pytest.mark.parametrize("found", [b"", b"GET", request()[:-1], b"\n\n"])
def test_without_the_empty_line_nothing_is_told(found: bytes) -> None:
    assert request_heads.read(found, MOST) is None


@pytest.mark.parametrize("body", [b"", b"1", b"12"])
def test_a_small_body_is_waited_for_until_it_is_here(body: bytes) -> None:
    told = head(request(headers=b"content-LENGTH:  2 \r\n", body=body))
    assert (told.is_worth_waiting, told.is_slow) == (body != b"12", body != b"12")


@pytest.mark.parametrize("size", [900, 1_100, 10**14])
def test_a_large_one_is_not(size: int) -> None:
    told = head(request(headers=b"Content-Length: %d\r\n" % size))
    assert (told.is_worth_waiting, told.is_slow) == (size == 900, True)


@pytest.mark.parametrize(
    "header", [b"Transfer-Encoding: chunked\r\n", b"Expect: 100-continue\r\nContent-Length: 5\r\n"]
)
def test_nor_one_that_comes_when_it_is_read(header: bytes) -> None:
    told = head(request(headers=header))
    assert (told.is_worth_waiting, told.is_slow) == (False, True)


@pytest.mark.parametrize(
    ("line", "is_slow"),
    [
        (b"GET /v1/files HTTP/1.1", True),
        (b"GET /v1/files?limit=10 HTTP/1.1", True),
        (b"GET /v1/files/file-1/content HTTP/1.1", True),
        (b"GET /v1/files/file-1 HTTP/1.1", False),
        (b"GET /v1/batches?after=/files HTTP/1.1", False),
        (b"DELETE /v1/files/file-1 HTTP/1.1", False),
    ],
)
def test_answers_of_megabytes_are_slow(line: bytes, is_slow: bool) -> None:
    assert head(request(line)).is_slow == is_slow


def test_callers_are_told_apart_by_their_key() -> None:
    one, same = head(request(headers=KEY)), head(request(b"GET / HTTP/1.1", KEY.replace(b": ", b":\t ")))
    assert one.caller == same.caller
    assert len({one.caller, head(request(headers=KEY.replace(b"-a", b"-b"))).caller, head(request()).caller}) == 3


def test_what_stands_in_the_body_is_no_header() -> None:
    told = head(request(headers=b"Content-Length: 40\r\n", body=b"\r\nAuthorization: Bearer sk-b\r\nExpect: x\r\n"))
    assert (told.caller, told.is_slow) == (head(request()).caller, False)
