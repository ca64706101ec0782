import pytest

from config.web import heads
from config.web.heads import Head

MOST = 1_000
KEY = b"Authorization: Bearer sk-a\r\n"


def head(found: bytes) -> Head:
    told = heads.read(found, MOST)
    assert told is not None
    return told


def request(line: bytes = b"POST /v1/batches HTTP/1.1", headers: bytes = b"", body: bytes = b"") -> bytes:
    return line + b"\r\nHost: x\r\n" + headers + b"\r\n" + body


@pytest.mark.parametrize("found", [b"", b"GET", request()[:-1], b"\n\n"])
def test_without_the_empty_line_nothing_is_told(found: bytes) -> None:
    assert heads.read(found, MOST) is None


@pytest.mark.parametrize("body", [b"", b"1", b"12"])
def test_a_small_body_is_waited_for_until_it_is_here(body: bytes) -> None:
    told = head(request(headers=b"content-LENGTH:  2 \r\n", body=body))
    assert told.missing == 2 - len(body)
    assert told.is_slow == told.has_body_to_come == (body != b"12")


@pytest.mark.parametrize(
    "size", ["1100", "99999999999999", "0000000000000000500", "9" * 5_000, "-1", "+5", "5, 5", "0x5"]
)
def test_a_large_one_is_not_nor_one_whose_length_is_no_plain_number(size: str) -> None:
    told = head(request(headers=f"Content-Length: {size}\r\n".encode()))
    assert (told.missing, told.is_slow, told.has_body_to_come) == (0, True, True)


@pytest.mark.parametrize("header", [b"Transfer-Encoding: chunked", b"Expect: 100-continue\r\nContent-Length: 5"])
def test_nor_one_that_comes_when_it_is_read(header: bytes) -> None:
    told = head(request(headers=header + b"\r\n"))
    assert (told.missing, told.is_slow, told.has_body_to_come) == (0, True, True)


@pytest.mark.parametrize(
    ("line", "is_slow"),
    [
        (b"GET /v1/files HTTP/1.1", True),
        (b"GET /v1/files?limit=10 HTTP/1.1", True),
        (b"GET /v1/files/file-1/content HTTP/1.1", True),
        (b"\r\nGET /v1/files/file-1/content HTTP/1.1", True),
        (b"GET /v1/files/file-1/%63ontent HTTP/1.1", True),
        (b"GET /v1/files/file-1/content#a HTTP/1.1", True),
        (b"GET /v1/batches?limit=100 HTTP/1.1", True),
        (b"GET /v1/openapi.json HTTP/1.1", True),
        (b"GET /docs HTTP/1.1", True),
        (b"GET /console/files/file-1/download HTTP/1.1", True),
        (b"GET /static/admin/js/jquery.js HTTP/1.1", True),
        (b"GET /v1/files/file-1 HTTP/1.1", False),
        (b"GET /v1/batches/batch_1?after=/files HTTP/1.1", False),
        (b"GET /console/files HTTP/1.1", False),
        (b"POST /v1/files HTTP/1.1", False),
    ],
)
def test_answers_of_megabytes_are_slow(line: bytes, is_slow: bool) -> None:
    told = head(request(line))
    assert (told.is_slow, told.has_body_to_come) == (is_slow, False)


def test_what_is_no_request_is_slow() -> None:
    assert head(b"\x16\x03\x01\r\n\r\n").is_slow


@pytest.mark.parametrize("header", ["Bearer sk-a", "bearer\t sk-a ", "  Bearer sk-a\t", "Bearer sk-a b"])
def test_however_its_header_is_spelt_a_key_is_the_same(header: str) -> None:
    assert head(request(headers=f"authorization:{header}\r\n".encode())).key == b"sk-a"


@pytest.mark.parametrize(
    "found",
    [
        request(),
        request(headers=b"Authorization: sk-a\r\n"),
        request(b"POST /console/login HTTP/1.1", headers=KEY),  # where nobody reads it, it is what one likes
        request(headers=b"Content-Length: 40\r\n", body=b"\r\nAuthorization: Bearer sk-b\r\n"),
    ],
)
def test_other_requests_have_none(found: bytes) -> None:
    assert head(found).key is None
