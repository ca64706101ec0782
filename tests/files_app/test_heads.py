"""The beginnings of lines, whatever the file looks like."""

import io
import re
import tracemalloc

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from files_app import heads
from files_app.heads import Head

FILES = st.lists(st.sampled_from([b"", b"a", b"bc", b"d" * 40, b"\r"])).map(b"\n".join)


@pytest.fixture(params=[1, 3, heads.CHUNK_BYTES])
def _pieces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "CHUNK_BYTES", request.param)


in_pieces = pytest.mark.usefixtures("_pieces")


def lines_of(data: bytes) -> list[Head]:
    found = re.finditer(rb"[^\n]*\n|[^\n]+", data)
    return [Head(line.start(), len(line[0]), line[0][:10]) for line in found]


@in_pieces
@given(FILES)
@example(b"")
@example(b"\n\n")
@example(b"no end")
def test_forwards_each_line_comes_with_its_place_and_its_beginning(data: bytes) -> None:
    assert list(heads.following(io.BytesIO(data), 0, 10)) == lines_of(data)


@in_pieces
@given(FILES)
@example(b"\n\n")
@example(b"no end")
def test_backwards_the_same_lines_come(data: bytes) -> None:
    assert list(heads.preceding(io.BytesIO(data), len(data), 10)) == lines_of(data)[::-1]


@in_pieces
@given(FILES)
def test_from_any_line_on_the_rest_comes_forwards_and_what_was_before_backwards(data: bytes) -> None:
    lines = lines_of(data)
    for place, line in enumerate(lines):
        assert heads.is_start(io.BytesIO(data), line.offset)
        assert list(heads.following(io.BytesIO(data), line.offset, 10)) == lines[place:]
        assert list(heads.preceding(io.BytesIO(data), line.offset, 10)) == lines[:place][::-1]


def test_the_middle_of_a_line_and_what_is_beyond_the_end_are_no_beginnings() -> None:
    file = io.BytesIO(b"ab\ncd\n")
    assert [heads.is_start(file, offset) for offset in range(9)] == [
        True,
        False,
        False,
        True,
        *[False] * 2,
        True,
        *[False] * 2,
    ]


def test_of_long_lines_no_more_is_held_than_was_asked_for() -> None:
    data = io.BytesIO((b"x" * 20_000_000 + b"\n") * 2)
    tracemalloc.start()
    sizes = [head.size for head in heads.following(data, 0, 10)]
    sizes += [head.size for head in heads.preceding(data, 40_000_002, 10)]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sizes == [20_000_001] * 4
    assert peak < 2_000_000
