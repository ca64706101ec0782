"""What arrives at the port, byte for byte. What it is answered with is in answers.md."""

import json
from dataclasses import dataclass
from urllib.parse import quote

from tests.corpus.inputs import ENDPOINT, line

B = "frontier"
FORM = f"multipart/form-data; boundary={B}"
JSON = "Content-Type: application/json"
DEEP = 100_000


@dataclass(frozen=True)
class Tenant:
    """Whom the corpus is sent by: a key, and a file and a batch of its own."""

    key: str
    file: str
    batch: str

    def http(self, start: str, *headers: str, body: bytes = b"", length: str | None = "") -> bytes:
        """`length` in place of the true one; None for none at all."""
        lines = [f"{start} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {self.key}", "Connection: close"]
        if length is not None and (body or length):
            lines.append(f"Content-Length: {length or len(body)}")
        return "\r\n".join([*lines, *headers, "", ""]).encode("utf-8", "surrogateescape") + body

    def post(self, path: str, body: bytes, *headers: str) -> bytes:
        return self.http(f"POST /v1/{path}", JSON, *headers, body=body)

    def form(self, *parts: bytes, kind: str = FORM, end: bytes = f"--{B}--\r\n".encode(), **options: str) -> bytes:
        return self.http("POST /v1/files", f"Content-Type: {kind}", body=b"".join(parts) + end, **options)


def part(disposition: str, content: bytes, *headers: str) -> bytes:
    lines = [f"--{B}", f"Content-Disposition: form-data{disposition}", *headers, "", ""]
    return "\r\n".join(lines).encode("utf-8", "surrogateescape") + content + b"\r\n"


def field(name: str, value: bytes = b"x") -> bytes:
    return part(f'; name="{name}"', value)


def file(name: str = "in.jsonl", content: bytes | None = None) -> bytes:
    return part(f'; name="file"; filename="{name}"', line() if content is None else content)


IN = '; name="file"; filename="in.jsonl"'
PURPOSE = field("purpose", b"batch")
CONTENT = line()


def chunked(*pieces: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + end


def forms(tenant: Tenant) -> dict[str, bytes]:
    form = tenant.form
    return {
        "a form": form(PURPOSE, file()),
        "the file first": form(file(), PURPOSE),
        "no boundary": form(PURPOSE, file(), kind="multipart/form-data"),
        "an empty boundary": form(PURPOSE, file(), kind="multipart/form-data; boundary="),
        "another boundary": form(PURPOSE, file(), kind="multipart/form-data; boundary=other"),
        "a quoted boundary": form(PURPOSE, file(), kind=f'multipart/form-data; boundary="{B}"'),
        "a boundary of 1,000 letters": form(PURPOSE, kind=f"multipart/form-data; boundary={'b' * 1_000}"),
        "no closing boundary": form(PURPOSE, file(), end=b""),
        "half a closing boundary": form(PURPOSE, file(), end=f"--{B}-".encode()),
        "something after the end": form(PURPOSE, file(), end=f"--{B}--\r\n".encode() + b"epilogue"),
        "nothing but the end": form(),
        "an empty body": tenant.http("POST /v1/files", f"Content-Type: {FORM}", length="0"),
        "no purpose": form(file()),
        "another purpose": form(field("purpose", b"fine-tune"), file()),
        "two purposes": form(PURPOSE, PURPOSE, file()),
        "no file": form(PURPOSE),
        "two files": form(PURPOSE, file("a.jsonl"), file("b.jsonl")),
        "a file without bytes": form(PURPOSE, file(content=b"")),
        "a file that has no filename": form(PURPOSE, part('; name="file"', CONTENT)),
        "a filename of no letters": form(PURPOSE, file("")),
        "a file of another name": form(PURPOSE, part('; name="upload"; filename="in.jsonl"', CONTENT)),
        "a part without a name": form(PURPOSE, part("", b"x"), file()),
        "a part without headers": form(PURPOSE, f"--{B}\r\n\r\nx\r\n".encode(), file()),
        "../../etc/passwd": form(PURPOSE, file("../../etc/passwd")),
        "../../x.jsonl": form(PURPOSE, file("../../x.jsonl")),
        r"C:\x\y": form(PURPOSE, file("C:\\x\\y")),
        "..": form(PURPOSE, file("..")),
        "an extension of another kind": form(PURPOSE, file("in.csv")),
        "a name with U+202E": form(PURPOSE, file("in\u202elnosj.jsonl")),
        "a name with NUL": form(PURPOSE, file("a\0b.jsonl")),
        "a name with a line break": form(PURPOSE, part("; name=\"file\"; filename*=utf-8''a%0Ab.jsonl", CONTENT)),
        "a name that is not UTF-8": form(PURPOSE, file("\udcff.jsonl")),
        "a name of a charset that nobody knows": form(PURPOSE, part("; name=\"file\"; filename*=x''a.jsonl", CONTENT)),
        "a name of 255 letters": form(PURPOSE, file("今" * 249 + ".jsonl")),
        "a name of 300 letters": form(PURPOSE, file("a" * 294 + ".jsonl")),
        "a name of 100,000 letters": form(PURPOSE, file("a" * 100_000 + ".jsonl")),
        "part headers of 100,000 letters": form(PURPOSE, part('; name="x"', b"x", "X-Long: " + "x" * 100_000), file()),
        "2,000 fields": form(PURPOSE, *(field(f"f{n}") for n in range(2_000)), file()),
        "a field of 2 MB": form(PURPOSE, field("x", b"x" * 2_000_000), file()),
        "a field with NUL": form(PURPOSE, field("x", b"a\0b"), file()),
        "a field that is not UTF-8": form(PURPOSE, field("x", b"\xff"), file()),
        "base64 that is none": form(PURPOSE, part(IN, b"?", "Content-Transfer-Encoding: base64")),
        "an expiry of an hour": form(PURPOSE, *expiry(b"created_at", b"3600"), file()),
        "an expiry that is too short": form(PURPOSE, *expiry(b"created_at", b"3599"), file()),
        "an expiry of 5,000 digits": form(PURPOSE, *expiry(b"created_at", b"9" * 5_000), file()),
        "an expiry from another anchor": form(PURPOSE, *expiry(b"now", b"3600"), file()),
        "an anchor alone": form(PURPOSE, field("expires_after[anchor]", b"created_at"), file()),
        "JSON in place of a form": tenant.post("files", b'{"purpose": "batch"}'),
        "no Content-Type": tenant.http("POST /v1/files", body=PURPOSE + file()),
        "a form that is gzip": tenant.form(b"\x1f\x8b" * 9, end=b""),
    }  # fmt: skip


def expiry(anchor: bytes, seconds: bytes) -> tuple[bytes, bytes]:
    return field("expires_after[anchor]", anchor), field("expires_after[seconds]", seconds)


def framing(tenant: Tenant) -> dict[str, bytes]:
    body = PURPOSE + file() + f"--{B}--\r\n".encode()
    kind = f"Content-Type: {FORM}"

    def upload(*headers: str, body: bytes = body, length: str | None = None) -> bytes:
        return tenant.http("POST /v1/files", kind, *headers, body=body, length=length)

    coded = "Transfer-Encoding: chunked"
    return {
        "a Content-Length that is too short": upload(length=str(len(body) - 20)),
        "a Content-Length that is too long": upload(length=str(len(body) + 20)),
        "a Content-Length of 10^30": upload(length="1" + "0" * 30),
        "a Content-Length past the limit": upload(length="900000000"),
        "a Content-Length that is negative": upload(length="-1"),
        "a Content-Length with a sign": upload(length=f"+{len(body)}"),
        "a Content-Length that is no number": upload(length="0x10"),
        "two Content-Lengths": upload(f"Content-Length: {len(body)}", length="10"),
        "no Content-Length": upload(),
        "chunked": upload(coded, body=chunked(body[:50], body[50:])),
        "chunked, a byte at a time": upload(coded, body=chunked(*(body[n : n + 1] for n in range(len(body))))),
        "chunked, with an extension": upload(coded, body=b"%x;a=b\r\n%b\r\n0\r\n\r\n" % (len(body), body)),
        "chunked, with a trailer": upload(coded, body=chunked(body, end=b"0\r\nX-Sum: 1\r\n\r\n")),
        "chunked, without an end": upload(coded, body=chunked(body, end=b"")),
        "chunked, a size that is none": upload(coded, body=b"zz\r\n" + body),
        "chunked, a size that is negative": upload(coded, body=b"-5\r\n" + body),
        "chunked, a size of 100 digits": upload(coded, body=b"f" * 100 + b"\r\n" + body),
        "chunked and a Content-Length": upload(coded, body=chunked(body), length="5"),
        "Transfer-Encoding of two kinds": upload("Transfer-Encoding: gzip, chunked", body=chunked(body)),
        "Transfer-Encoding twice": upload(coded, coded, body=chunked(body)),
        "Transfer-Encoding that is disguised": upload("Transfer-Encoding: \x0bchunked", body=chunked(body)),
        "Transfer-Encoding: identity": upload("Transfer-Encoding: identity", length=str(len(body))),
        "chunked JSON": tenant.http(
            "POST /v1/batches/estimate", JSON, coded, body=chunked(estimate(tenant)), length=None
        ),
        "Expect: 100-continue": upload("Expect: 100-continue", length=str(len(body))),
        "Expect: the unexpected": upload("Expect: the-unexpected", length=str(len(body))),
    }  # fmt: skip


def estimate(tenant: Tenant) -> bytes:
    return json.dumps({"input_file_id": tenant.file, "endpoint": ENDPOINT}).encode()


def requests(tenant: Tenant) -> dict[str, bytes]:
    http = tenant.http

    def raw(*lines: str, end: bytes = b"\r\n\r\n") -> bytes:
        return "\r\n".join(lines).encode("latin-1") + end

    def again(key: str) -> bytes:
        return tenant.post("batches", new_batch(tenant), f"Idempotency-Key: {key}")

    host, close, key = "Host: localhost", "Connection: close", f"Authorization: Bearer {tenant.key}"
    return {
        "no HTTP": b"hello\r\n\r\n",
        "NUL bytes in place of a request": bytes(100) + b"\r\n\r\n",
        "a TLS greeting": bytes.fromhex("16030100a5010000a10303") + bytes(155) + b"\r\n\r\n",
        "HTTP/2 with prior knowledge": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "HTTP/0.9": b"GET /v1/models\r\n\r\n",
        "HTTP/3.0": raw("GET /v1/models HTTP/3.0", host),
        "a method that nobody knows": http("BREW /v1/models"),
        "a method in small letters": http("get /v1/models"),
        "TRACE": http("TRACE /v1/models"),
        "CONNECT": http("CONNECT /v1/models"),
        "PUT": http("PUT /v1/files"),
        "OPTIONS": http("OPTIONS /v1/batches"),
        "an absolute address": http("GET http://localhost/v1/models"),
        "an absolute address of another host": http("GET http://evil.example/v1/models"),
        "a path of two slashes": http("GET //v1/models"),
        "a path that climbs": http("GET /v1/../v1/models"),
        "a path that climbs, escaped": http("GET /v1/%2e%2e/v1/models"),
        "a path that is not UTF-8": http("GET /v1/files/%FF"),
        "a path with NUL": http("GET /v1/files/a%00b"),
        "a path with half of a surrogate pair": http("GET /v1/files/%ED%A0%80"),
        "a path of 4,000 letters": http("GET /v1/files/" + "a" * 3_900),
        "a path of 10,000 letters": http("GET /v1/files/" + "a" * 10_000),
        "a path that leads nowhere": http("GET /v1/nothing"),
        "a trailing slash": http("GET /v1/files/"),
        "another host": raw("GET /v1/models HTTP/1.1", "Host: evil.example", key, close),
        "no host": raw("GET /v1/models HTTP/1.1", key, close),
        "two hosts": raw("GET /v1/models HTTP/1.1", host, "Host: evil.example", key, close),
        "no key": raw("GET /v1/models HTTP/1.1", host, close),
        "a wrong key": raw("GET /v1/models HTTP/1.1", host, close, "Authorization: Bearer sk-wrong"),
        "Basic": raw("GET /v1/models HTTP/1.1", host, close, "Authorization: Basic c2s6"),
        "a key of 7,000 letters": raw("GET /v1/models HTTP/1.1", host, close, "Authorization: Bearer " + "k" * 7_000),
        "a key that is not ASCII": raw("GET /v1/models HTTP/1.1", host, close, "Authorization: Bearer sk-\xe9"),
        "a header with NUL": http("GET /v1/models", "X-Bad: a\0b"),
        "a header without a colon": http("GET /v1/models", "Nonsense"),
        "a header with a space before its colon": http("GET /v1/models", "X-Bad : 1"),
        "a header that goes on in the next line": http("GET /v1/models", "X-Bad: 1", " 2"),
        "a header of 10,000 letters": http("GET /v1/models", "X-Long: " + "a" * 10_000),
        "200 headers": http("GET /v1/models", *(f"X-{n}: 1" for n in range(200))),
        "LF alone between headers": http("GET /v1/models").replace(b"\r\n", b"\n"),
        "an Idempotency-Key of 256 letters": again("k" * 256),
        "an Idempotency-Key with a tab": again("a\tb"),
        "an Idempotency-Key that is not ASCII": again("\u00e9\u202e"),
        "a Range without numbers": http(f"GET /v1/files/{tenant.file}/content", "Range: bytes=-"),
        "a Range of 5,000 digits": http(f"GET /v1/files/{tenant.file}/content", "Range: bytes=0-" + "9" * 5_000),
        "a Range that is not in the file": http(f"GET /v1/files/{tenant.file}/content", "Range: bytes=999999-"),
        "two Ranges": http(f"GET /v1/files/{tenant.file}/content", "Range: bytes=0-1,3-4"),
        "Accept: text/html": http("GET /v1/files/none", "Accept: text/html"),
        "Accept: nonsense": http("GET /v1/models", "Accept: nonsense"),
        "X-Forwarded-Host": http("GET /v1/models", "X-Forwarded-Host: evil.example"),
        "a method in place of another": http("GET /v1/files", "X-HTTP-Method-Override: DELETE"),
    }  # fmt: skip


def new_batch(tenant: Tenant, **changes: object) -> bytes:
    fields = {"input_file_id": tenant.file, "endpoint": ENDPOINT, "completion_window": "24h"}
    return json.dumps(fields | changes).encode()


BROKEN: dict[str, bytes] = {
    "no JSON": b"hello",
    "an array": b"[]",
    "null": b"null",
    "a text": b'"x"',
    "two objects": b"{}{}",
    "a BOM": b"\xef\xbb\xbf{}",
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "not UTF-8": b'{"a": "\xff"}',
    "NaN": b'{"a": NaN}',
    "1e999": b'{"a": 1e999}',
    "5,000 digits": b'{"a": ' + b"9" * 5_000 + b"}",
    "half of a surrogate pair": b'{"a": "\\ud800"}',
    "a surrogate in UTF-8": b'{"a": "\xed\xa0\x80"}',
    "NUL": b'{"a": ["\\u0000"]}',
    "NUL in a key": b'{"a\\u0000": 1}',
    "100,000 arrays": b'{"a": ' + b"[" * DEEP + b"]" * DEEP + b"}",
    "100,000 arrays that do not end": b"[" * DEEP,
    "100,000 objects": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "more than a megabyte": b'{"a": "' + b"a" * 1024 * 1024 + b'"}',
    "a form's fields": b"a=1&b=2",
}
TAKING_JSON = ("batches", "batches/estimate", "batches/{batch}/cancel", "uploads", "uploads/none/complete")


def bodies(tenant: Tenant) -> dict[tuple[str, str], bytes]:
    return {
        (path, name): tenant.post(path.format(batch=tenant.batch), body)
        for path in TAKING_JSON
        for name, body in BROKEN.items()
    }


def values(tenant: Tenant) -> dict[str, bytes]:
    """Single members of a new batch."""

    def create(**changes: object) -> bytes:
        return tenant.post("batches", new_batch(tenant, **changes))

    pairs = {f"k{n}": "v" for n in range(17)}
    return {
        "no body": tenant.post("batches", b""),
        "no body for an estimate": tenant.post("batches/estimate", b""),
        "no body for an upload": tenant.post("uploads", b""),
        "no body for a completion": tenant.post("uploads/none/complete", b""),
        "no body for a batch that has ended": tenant.post(f"batches/{tenant.batch}/cancel", b""),
        "200,000 empty arrays": create(unknown=[[]] * 200_000, endpoint=""),
        "input_file_id: a number": create(input_file_id=1),
        "input_file_id: null": create(input_file_id=None),
        "input_file_id: 65 letters": create(input_file_id="f" * 65),
        "endpoint: unknown": create(endpoint="/v1/images"),
        "endpoint: an array": create(endpoint=[]),
        "completion_window: 23h": create(completion_window="23h"),
        "completion_window: 337h": create(completion_window="337h"),
        "completion_window: 15d": create(completion_window="15d"),
        "completion_window: 24h in wide digits": create(completion_window="\uff12\uff14h"),
        "completion_window: 24": create(completion_window=24),
        "metadata: an array": create(metadata=[]),
        "metadata: a number in it": create(metadata={"a": 1}),
        "metadata: 17 pairs": create(metadata=pairs),
        "metadata: a key of 65 letters": create(metadata={"k" * 65: "v"}),
        "metadata: a value of 513 letters": create(metadata={"a": "v" * 513}),
        "metadata: ds_name of 101 letters": create(metadata={"ds_name": "n" * 101}),
        "output_expires_after: a text": create(output_expires_after="x"),
        "output_expires_after: nothing in it": create(output_expires_after={}),
        "output_expires_after: true": create(output_expires_after={"anchor": "created_at", "seconds": True}),
        "output_expires_after: 1e300": create(output_expires_after={"anchor": "created_at", "seconds": 1e300}),
        "idempotency_key: a number": create(idempotency_key=1),
        "idempotency_key: 256 letters": create(idempotency_key="k" * 256),
        "no Content-Type for JSON": tenant.http("POST /v1/batches", body=new_batch(tenant)),
        "text/plain": tenant.http("POST /v1/batches", "Content-Type: text/plain", body=new_batch(tenant)),
        "bytes: 2^70": tenant.post("uploads", json.dumps(announced(2**70)).encode()),
        "bytes: -1": tenant.post("uploads", json.dumps(announced(-1)).encode()),
        "bytes: 1.5": tenant.post("uploads", json.dumps(announced(1.5)).encode()),
        "part_ids: a text": tenant.post("uploads/none/complete", b'{"part_ids": "x"}'),
        "part_ids: numbers": tenant.post("uploads/none/complete", b'{"part_ids": [1]}'),
        "an upload that is not there": tenant.post("uploads/none/complete", b'{"part_ids": []}'),
        "a batch that is not there": tenant.post("batches/none/cancel", b""),
    }


def announced(size: object) -> dict[str, object]:
    return {"purpose": "batch", "filename": "in.jsonl", "bytes": size, "mime_type": "application/jsonl"}


QUERIES = (
    "files?limit=0",
    "files?limit=10001",
    "files?limit=",
    "files?limit=1e2",
    "files?limit=\uff11",
    "files?limit=" + "9" * 3_000,
    "files?order=sideways",
    "files?after=file-batch-none",
    "files?after=a%00b",
    "files?after=%FF",
    "files?purpose=%ED%A0%80",
    "files?purpose=nothing",
    "files?unknown=1&&=&%3D",
    "batches?limit=101",
    "batches?status=finished",
    "batches?status=completed,,",
    "batches?ds_name=%25%27%22%3B--",
    "batches?ds_name=%E2%80%AE",
    "batches?ds_name=%00",
    "batches?input_file_ids=" + ",".join("abcdefghijklmnopqrstu"),
    "batches?create_after=20261301000000",
    "batches?create_after=00000000000000",
    "batches?create_after=99991231235959",
    "batches?create_before=now",
    "usage",
    "usage?start_time=-1",
    "usage?start_time=1.5",
    "usage?start_time=99999999999999999999",
    "usage?start_time=10&end_time=10",
    "usage?start_time=10&end_time=",
    "usage?start_time=0&group_by=day",
    "usage?start_time=0&group_by=colour",
    "usage?start_time=0&group_by=%00",
    "costs?start_time=0&group_by=line_item&group_by[]=model",
    "models/%2e%2e",
    "models/a/b:c",
    "batches/batch_none",
    "batches/%F0%9F%98%80",
    "files/none/content",
)


def queries(tenant: Tenant) -> dict[str, bytes]:
    return {name[:60]: tenant.http("GET /v1/" + quote(name, safe="/?=&%,[]:;-+")) for name in QUERIES}


def sent(tenant: Tenant) -> dict[str, dict[str, bytes]]:
    return {
        "form": forms(tenant),
        "framing": framing(tenant),
        "request": requests(tenant),
        "value": values(tenant),
        "query": queries(tenant),
    }


def broken_off(tenant: Tenant) -> dict[str, bytes]:
    """Uploads whose sender goes away after so much."""
    body = PURPOSE + file(content=CONTENT * 20_000) + f"--{B}--\r\n".encode()
    whole = tenant.http("POST /v1/files", f"Content-Type: {FORM}", body=body)
    head = whole.index(b"\r\n\r\n") + 4
    coded = tenant.http("POST /v1/files", f"Content-Type: {FORM}", "Transfer-Encoding: chunked")
    return {
        "in the request line": whole[:10],
        "in the headers": whole[: head - 10],
        "after the headers": whole[:head],
        "in the first boundary": whole[: head + 3],
        "in a part's headers": whole[: head + 40],
        "in the file": whole[: head + 500_000],
        "before the closing boundary": whole[: -len(B) - 6],
        "in the closing boundary": whole[:-5],
        "one byte before the end": whole[:-1],
        "chunked, after the headers": coded,
        "chunked, in a size": coded + b"ff",
        "chunked, in a chunk": coded + b"fffff\r\n" + body[:500_000],
        "chunked, before its end": coded + chunked(body, end=b""),
        "chunked, in its end": coded + chunked(body, end=b"0\r\n"),
    }
