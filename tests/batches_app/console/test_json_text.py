"""JSON indented for reading: the same tokens, in any nesting, never longer than asked."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batches_app.console.json_text import indented

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(VALUES)
def test_it_says_the_same(value: Any) -> None:
    for text in (json.dumps(value, ensure_ascii=False), json.dumps(value)):
        assert json.loads(indented(text, 1_000_000)) == value


def test_it_looks_as_one_would_write_it() -> None:
    value = {"a": [1, {"b": []}], "c": {}}
    assert indented(json.dumps(value), 1000) == json.dumps(value, indent=2)


@pytest.mark.parametrize("text", ["1.00000000000000000001", '{"a":1,"a":2}', "1e999", '"\\ud83d"', "-0", '"a\\/b"'])
def test_values_stay_as_they_were_written(text: str) -> None:
    assert "".join(indented(text, 1000).split()) == text


def test_letters_that_were_escaped_are_shown() -> None:
    assert indented(r'{"say": "\u4f60\u597d\n\ud83d\ude00"}', 1000) == '{\n  "say": "你好\\n😀"\n}'


@given(st.text(), st.integers(0, 100))
def test_whatever_it_is_given_it_is_no_longer_than_asked(text: str, most: int) -> None:
    assert len(indented(text, most)) <= most
