"""JSON indented for reading: the same tokens, in any nesting, never longer than asked."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from batches_app.console.json_text import indented

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES)
def test_it_says_the_same(value: Any) -> None:
    assert json.loads(indented(json.dumps(value, ensure_ascii=False), 1_000_000)) == value


def test_it_looks_as_one_would_write_it() -> None:
    value = {"a": [1, {"b": []}], "c": {}}
    assert indented(json.dumps(value), 1000) == json.dumps(value, indent=2)


@given(st.text(), st.integers(0, 100))
def test_whatever_it_is_given_it_is_no_longer_than_asked(text: str, most: int) -> None:
    assert len(indented(text, most)) <= most
