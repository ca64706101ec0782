"""Cutting a file into shards."""

import io
from dataclasses import astuple
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from batches_app.sharding import Planner, ShardPlan
from files_app.jsonl import BOM, Line, read_lines

ENDLESS = 10**9
pieces = st.lists(
    st.sampled_from([b"{}", b'{"a":1}', b"x" * 30, b"", b"  ", BOM + b"y"]).flatmap(
        lambda text: st.sampled_from([text + b"\n", text + b"\r\n"])
    ),
    max_size=30,
)


def lines_of(data: bytes, first_number: int = 1) -> list[Line]:
    return list(read_lines(io.BytesIO(data), max_bytes=ENDLESS, first_number=first_number))


def plan(lines: list[Line], max_requests: int = 256, max_bytes: int = ENDLESS) -> list[ShardPlan]:
    planner = Planner(max_requests, max_bytes)
    for line in lines:
        planner.add(line)
    return planner.finish()


@given(
    bom=st.booleans(),
    pieces=pieces,
    last=st.sampled_from([b"", b"{}"]),
    max_requests=st.integers(1, 5),
    max_bytes=st.integers(1, 60),
)
def test_shards_cover_each_request_once_and_read_back_the_same(
    bom: bool, pieces: list[bytes], last: bytes, max_requests: int, max_bytes: int
) -> None:
    """B10: no request is lost or run twice, because the shards hold each exactly once."""
    data = BOM * bom + b"".join(pieces) + last
    lines = lines_of(data)
    shards = plan(lines, max_requests, max_bytes)
    again: list[Line] = []
    for shard in shards:
        assert 1 <= shard.requests <= max_requests
        assert shard.size <= max_bytes or shard.requests == 1
        part = lines_of(data[shard.offset : shard.offset + shard.size], shard.first_line)
        assert len(part) == shard.requests
        assert (part[0].number, part[-1].number) == (shard.first_line, shard.last_line)
        again += [line._replace(offset=line.offset + shard.offset, end=line.end + shard.offset) for line in part]
    assert again == lines
    ends = [0] + [shard.offset + shard.size for shard in shards]
    assert all(shard.offset >= end for shard, end in zip(shards, ends, strict=False))


@given(pieces=pieces, max_requests=st.integers(1, 5), max_bytes=st.integers(1, 60))
def test_a_shard_ends_only_where_one_more_line_would_be_too_much(
    pieces: list[bytes], max_requests: int, max_bytes: int
) -> None:
    """A shard is as full as it may be: a row of the database for each."""
    data = b"".join(pieces)
    ends = {line.number: line.end for line in lines_of(data)}
    shards = plan(lines_of(data), max_requests, max_bytes)
    for shard, following in pairwise(shards):
        full = shard.requests == max_requests
        assert full or ends[following.first_line] - shard.offset > max_bytes


def test_a_shard_may_be_exactly_as_large_as_the_limit() -> None:
    """A shard is as full as it may be."""
    lines = lines_of(b"{}\n" * 4)
    assert [shard.requests for shard in plan(lines, max_bytes=6)] == [2, 2]
    assert [shard.requests for shard in plan(lines, max_bytes=5)] == [1, 1, 1, 1]


def test_the_first_shard_begins_with_the_bom() -> None:
    """V1: a BOM is tolerated, also by who reads the first shard."""
    (shard,) = plan(lines_of(BOM + b"{}\n\n[]"))
    assert astuple(shard) == (1, 3, 2, 0, 9)


def test_a_file_without_requests_has_no_shards() -> None:
    """V11: nothing to run."""
    assert plan([]) == []
