"""Looking for a custom_id in input files: found however it was written, never taken for another, and never for long."""

import json
from typing import Any

import pytest
from django.test import override_settings

from batches_app import custom_ids
from batches_app.custom_ids import CHUNK_BYTES, Search
from batches_app.models import Batch
from files_app import blobs
from tests.tenants import Tenant

pytestmark = pytest.mark.django_db


def line(custom_id: object, **body: Any) -> bytes:
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": "/v1/x", "body": body}).encode() + b"\n"


def batch_of(content: bytes, tenant: Tenant | None = None) -> Batch:
    tenant = tenant or Tenant(f"tenant {Batch.objects.count()}")
    return tenant.has_batch(source=tenant.has_file(content))


def holds(content: bytes, custom_id: str) -> bool:
    return bool(search([batch_of(content)], custom_id).found)


def search(batches: list[Batch], custom_id: str, **limits: Any) -> Search:
    return custom_ids.search(batches, custom_id, **({"most": 50} | limits))


@pytest.mark.parametrize("place", [0, 1, 2, 99])
def test_the_first_and_the_last_line_and_those_between(place: int) -> None:
    content = b"".join(line(f"req-{n}") for n in range(100))
    assert holds(content, f"req-{place}")
    assert holds(content.rstrip(b"\n"), f"req-{place}")
    assert not holds(content, "req-100")


def test_the_whole_custom_id_and_not_a_part_of_it() -> None:
    assert not holds(line("req-10"), "req-1")
    assert not holds(line("req-10"), "10")
    assert not holds(line("req-10"), "REQ-10")


def test_what_is_somewhere_else_in_a_line_is_no_custom_id() -> None:
    elsewhere = line("a", messages=[{"role": "user", "content": "req-1", "custom_id": "req-1"}]) + line(["req-1"])
    assert not holds(elsewhere, "req-1")
    assert holds(elsewhere + line("req-1"), "req-1")


@pytest.mark.parametrize("custom_id", ["评测/1", "é", '"quoted"', "back\\slash", "tab\tand\nline", "😀", " ", "a/b"])
@pytest.mark.parametrize("escape", ["\\u", "\\U", "no", "/"])
def test_however_an_encoder_writes_it(custom_id: str, escape: str) -> None:
    written = json.dumps(custom_id, ensure_ascii=escape != "no")
    if escape == "\\U":  # \u00E9 rather than \u00e9
        written = "\\u".join(part[:4].upper() + part[4:] if n else part for n, part in enumerate(written.split("\\u")))
    if escape == "/":
        written = written.replace("/", "\\/")
    assert holds(f'{{"body": {{}}, "custom_id" : {written}}}\r\n'.encode(), custom_id)


def test_a_file_that_begins_with_a_mark_and_has_blank_lines() -> None:
    assert holds(b"\xef\xbb\xbf" + line("1") + b"\n\r\n" + line("2"), "1")


@pytest.mark.parametrize(
    "junk", [b"\xff\xfe\x00", b'{"custom_id": "1"', b"[" * 100_000 + b'"1"', b'"1"', b'["1"]', b""]
)
def test_what_is_no_request_is_passed_over(junk: bytes) -> None:
    assert not holds(junk + b"\n", "1")
    assert holds(junk + b"\n" + line("1"), "1")


@pytest.mark.parametrize("filler", [CHUNK_BYTES - 40, CHUNK_BYTES - 1, CHUNK_BYTES, 3 * CHUNK_BYTES])
def test_a_line_that_lies_across_two_chunks_is_read_whole(filler: int) -> None:
    content = line("0", prompt="x" * filler) + line("1", prompt="x" * filler) + line("2")
    for custom_id in ("0", "1", "2"):
        assert holds(content, custom_id)


@override_settings(MAX_LINE_BYTES=1000)
def test_a_line_of_any_length_takes_no_more_memory_than_one_that_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(custom_ids, "CHUNK_BYTES", 512)
    longest = 0

    def measured(lines: bytes, *args: Any) -> bool:
        nonlocal longest
        longest = max(longest, len(lines))
        return False

    monkeypatch.setattr(custom_ids, "_is_in", measured)
    assert not holds(b"x" * 100_000, "1")
    assert 0 < longest <= 2024


# How far


def test_the_batches_are_looked_through_in_their_order() -> None:
    batches = [batch_of(line("1")), batch_of(line("2")), batch_of(line("1"))]
    assert search(batches, "1") == Search([batches[0], batches[2]], looked=3, missing=0)


def test_it_ends_with_as_many_as_were_wanted() -> None:
    batches = [batch_of(line("1")) for _ in range(4)]
    assert search(batches, "1", most=2) == Search(batches[:2], looked=2, missing=0)


def test_it_ends_when_the_bytes_are_used_up() -> None:
    batches = [batch_of(line("1") * 10) for _ in range(4)]
    size = batches[0].source.bytes if batches[0].source else 0
    assert search(batches, "1", most_bytes=size * 2).looked == 2
    assert search(batches, "1", most_bytes=size * 3 - 1).looked == 2


def test_it_ends_when_the_time_is_used_up() -> None:
    assert search([batch_of(line("1"))], "1", seconds=-1) == Search([], looked=0, missing=0)


def test_time_is_up_within_a_file_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """One large file must not hold the page up."""
    monkeypatch.setattr(custom_ids, "CHUNK_BYTES", 100)
    times = iter(range(1000))
    monkeypatch.setattr("batches_app.custom_ids.time.monotonic", lambda: next(times))
    assert search([batch_of(line("x") * 100)], "1", seconds=5).looked == 0
    assert next(times) < 20


def test_a_file_that_is_gone_is_counted() -> None:
    tenant = Tenant("acme")
    deleted, lost, there = tenant.has_batch(source=None), batch_of(line("1"), tenant), batch_of(line("1"), tenant)
    assert lost.source is not None
    blobs.delete(lost.source.blob)
    assert search([deleted, lost, there], "1") == Search([there], looked=3, missing=2)
