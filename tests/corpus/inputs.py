"""Input files: of each, the bytes. What becomes of a batch of one is in answers.md."""

import gzip
import io
import json
import zipfile
from collections.abc import Iterable, Iterator
from typing import Any

BOM = b"\xef\xbb\xbf"
MODEL, ENDPOINT = "batch-test-model", "/v1/chat/ds-test"
EMBEDDING_MODEL, EMBEDDINGS = "embedder", "/v1/embeddings"
LINE_BYTES = 6_291_456
FILE_BYTES = 524_288_000


def request(custom_id: object = "1", /, **body: object) -> dict[str, Any]:
    said = [{"role": "user", "content": "Hello"}]
    return {
        "custom_id": custom_id,
        "method": "POST",
        "url": ENDPOINT,
        "body": {"model": MODEL, "messages": said} | body,
    }


def line(custom_id: object = "1", /, **body: object) -> bytes:
    return json.dumps(request(custom_id, **body), ensure_ascii=False).encode()


def lines(*rows: bytes, end: bytes = b"\n") -> bytes:
    return b"".join(row + end for row in rows)


def with_value(value: bytes) -> bytes:
    """A request that has this JSON, as it is, in a member of its body that is nobody's but the upstream's."""
    return line(x="HERE").replace(b'"HERE"', value)


def with_id(value: bytes) -> bytes:
    return line("HERE").replace(b'"HERE"', value)


def without(*names: str) -> bytes:
    return json.dumps({name: value for name, value in request().items() if name not in names}).encode()


def twice(member: bytes, value: bytes) -> bytes:
    """A request in which this member comes once more, first and with another value."""
    return line().replace(member, member + b": " + value + b", " + member, 1)


def sized(size: int, custom_id: str = "1") -> bytes:
    room = size - len(line(custom_id, x=""))
    return line(custom_id, x="a" * room)


def numbered(count: int) -> Iterator[bytes]:
    for start in range(0, count, 1_000):
        yield lines(*(line(str(number)) for number in range(start, min(start + 1_000, count))))


def embedding(value: bytes) -> bytes:
    """A request for embeddings of this JSON."""
    made = {"custom_id": "1", "method": "POST", "url": EMBEDDINGS, "body": {"model": EMBEDDING_MODEL, "input": "HERE"}}
    return json.dumps(made).encode().replace(b'"HERE"', value)


def repeated(item: bytes, size: int = LINE_BYTES - 200) -> bytes:
    """As many of them, in an array, as a line has room for."""
    return b"[" + b",".join([item] * (size // (len(item) + 1))) + b"]"


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(zipfile.ZipInfo("requests.jsonl"), lines(line()))  # of the same bytes every day
    return file.getvalue()


def largest(size: int) -> Iterator[bytes]:
    """A good file of so many bytes, in a hundred lines of five megabytes and more."""
    each, rest = divmod(size, 100)
    for number in range(100):
        yield sized(each - 1 + (rest if number == 99 else 0), str(number)) + b"\n"


DEEP = 100_000

INPUTS: dict[str, bytes] = {
    # How a file is written
    "two lines": lines(line("1"), line("2")),
    "BOM": BOM + lines(line("1"), line("2")),
    "two BOMs": BOM + BOM + lines(line("1"), line("2")),
    "BOM on line 2": lines(line("1"), BOM + line("2")),
    "CRLF": lines(line("1"), line("2"), end=b"\r\n"),
    "CR alone": lines(line("1"), line("2"), end=b"\r"),
    "blank lines": b"\n \t\n" + lines(line("1"), b"", b"\r", line("2"), b"", b"   "),
    "no final newline": lines(line("1")) + line("2"),
    "cut off in its last line": lines(line("1")) + line("2")[:-9],
    "U+2028 in a string": lines(line("1", x="a\u2028b\u2029c"), line("2")),
    "U+0085 in a string": lines(line("1", x="a\x85b")),
    "U+2028 between lines": line("1") + "\u2028".encode() + line("2"),
    "Latin-1": lines(line("1"), with_value('"é"'.encode("latin-1"))),
    "UTF-16, little end first": lines(line("1")).decode().encode("utf-16"),
    "UTF-16, big end first": lines(line("1")).decode().encode("utf-16-be"),
    "UTF-32": line("1").decode().encode("utf-32"),
    "pretty-printed": json.dumps(request(), indent=1).encode().replace(b"\n}", b"}"),
    "an array of requests": json.dumps([request("1"), request("2")]).encode(),
    "two requests on a line": line("1") + line("2"),
    # What is no input file
    "empty": b"",
    "newlines alone": b"\n\r\n\n",
    "BOM alone": BOM,
    "zip": zipped(),
    "gzip": gzip.compress(lines(line()), 0, mtime=0),
    "HTML": b"<!doctype html>\n<title>404</title>\n",
    "CSV": b"custom_id,method\n1,POST\n",
    "NUL bytes": bytes(1_000),
    # What is no request
    "an array on a line": b"[]",
    "a string on a line": b'"x"',
    "a number on a line": b"1",
    "null on a line": b"null",
    "an empty object": b"{}",
    "no body": without("body"),
    "a body of text": json.dumps(request() | {"body": "x"}).encode(),
    "a body that is an array": json.dumps(request() | {"body": []}).encode(),
    "GET": json.dumps(request() | {"method": "GET"}).encode(),
    "another endpoint's url": json.dumps(request() | {"url": "/v1/embeddings"}).encode(),
    "an unknown model": line(model="no-such-model"),
    "a model that is a number": line(model=7),
    "every member wrong": b'{"custom_id": 1, "method": 2, "url": 3, "body": 4}',
    # JSON that is none
    "NaN": with_value(b"NaN"),
    "-Infinity": with_value(b"-Infinity"),
    "a leading zero": with_value(b"01"),
    "a trailing comma": with_value(b"[1,]"),
    "single quotes": with_value(b"'x'"),
    "a comment": with_value(b"1 /* one */"),
    "a raw tab in a string": with_value(b'"a\tb"'),
    "a raw NUL in a string": with_value(b'"a\0b"'),
    "overlong UTF-8": with_value(b'"\xc0\x80"'),
    "a surrogate in UTF-8": with_value(b'"\xed\xa0\x80"'),
    "half of a surrogate pair": with_value(b'"\\ud83d"'),
    "a surrogate pair the wrong way round": with_value(b'"\\ude00\\ud83d"'),
    # JSON that is odd
    "NUL written as an escape": with_value(b'"\\u0000"'),
    "a whole surrogate pair": with_value(b'"\\ud83d\\ude00"'),
    "500 arrays deep": with_value(b"[" * 500 + b"]" * 500),
    "100,000 arrays deep": with_value(b"[" * DEEP + b"]" * DEEP),
    "100,000 arrays that do not end": with_value(b"[" * DEEP),
    "100,000 objects deep": with_value(b'{"a":' * DEEP + b"1" + b"}" * DEEP),
    "an integer of 5,000 digits": with_value(b"9" * 5_000),
    "1e999": with_value(b"1e999"),
    "-0.0": with_value(b"-0.0"),
    "500,000 empty arrays": with_value(repeated(b"[]", 1_500_000)),
    # Keys that come twice
    "custom_id twice": twice(b'"custom_id"', b'"2"'),
    "custom_id twice, once with an escape": line().replace(b'"custom_id"', b'"\\u0063ustom_id": "2", "custom_id"', 1),
    "body twice": twice(b'"body"', b"{}"),
    "model twice": twice(b'"model"', b'"other"'),
    "stream twice": line(stream=True).replace(b'"stream"', b'"stream": false, "stream"'),
    "a key of a message twice": twice(b'"role"', b'"system"'),
    # custom_ids
    "custom_id 1": with_id(b"1"),
    'custom_id 1 beside "1"': lines(with_id(b"1"), line("1")),
    "custom_id null": with_id(b"null"),
    "custom_id of no letters": with_id(b'""'),
    "custom_id with NUL": with_id(b'"a\\u0000b"'),
    "custom_id with half of a surrogate pair": with_id(b'"\\ud83d"'),
    "custom_id of 5,000 digits": with_id(b"1" * 5_000),
    "custom_id of 100,000 letters": line("é" * 100_000),
    "the same custom_id": lines(line("a"), line("b"), line("a")),
    "the same custom_id, once with an escape": lines(line("a"), with_id(b'"\\u0061"')),
    "custom_ids that look alike": lines(line("\u00e9"), line("e\u0301"), line("\uff11"), line("1"), line("1 ")),
    "custom_ids in two cases": lines(line("a"), line("A")),
    "custom_id with U+202E and a script": line("\u202e<script>alert(1)</script>\n=1+1"),
    # Limits
    "a line of 6 MB - 1": sized(LINE_BYTES - 1),
    "a line of 6 MB": sized(LINE_BYTES),
    "a line of 6 MB + 1": sized(LINE_BYTES + 1),
    "1,500 broken lines": lines(*[b"{"] * 1_500),
    # Arrays that cost more in memory than in bytes
    "embeddings of 50,000 texts": embedding(repeated(b'"ab"', 50_000 * 5)),
    "embeddings of 50,001 texts": embedding(repeated(b'"ab"', 50_001 * 5)),
    "embeddings of 1.2 million texts": embedding(repeated(b'"ab"')),
    "embeddings of 2 million empty arrays": embedding(repeated(b"[]")),
    "embeddings of 2 million empty objects": embedding(repeated(b"{}")),
    "embeddings of an array of 2 million arrays": embedding(b"[" + repeated(b"[]") + b"]"),
    "embeddings of a million tokens": embedding(repeated(b"12345")),  # which the fake upstream cannot read
    "2 million arrays for a model": line(model="HERE").replace(b'"HERE"', repeated(b"[]")),
    "2 million arrays for a prompt": line(prompt="HERE").replace(b'"HERE"', repeated(b"[]")),
    "2 million arrays and no method": with_value(repeated(b"[]")).replace(b'"method"', b'"m"'),
    "2 million arrays and a model twice": twice(b'"model"', b'"other"')[:-2] + b', "x": ' + repeated(b"[]") + b"}}",
}

LARGE: dict[str, Iterable[bytes]] = {
    "49,999 requests": numbered(49_999),
    "50,000 requests": numbered(50_000),
    "50,001 requests": numbered(50_001),
    "500 MB - 1": largest(FILE_BYTES - 1),
    "500 MB": largest(FILE_BYTES),
    "500 MB + 1": largest(FILE_BYTES + 1),
}
