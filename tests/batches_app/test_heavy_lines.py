"""Request lines that are larger in memory than on the disk. (How much memory they take, tests/corpus measures.)"""

import json
import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batches_app import heavy_lines
from batches_app.heavy_lines import LIGHT_BYTES, MANY_ITEMS, MOST_VALUES, TooManyValues, is_heavy, read_heavy
from batches_app.request_lines import Checker, ModelRules, most_output_tokens
from batches_app.request_members import InvalidLineError, read_exactly
from files_app.jsonl import Line

CHAT = "/v1/chat/completions"
MANY = b"[" + b",".join([b"[]"] * (MOST_VALUES + 1)) + b"]"
START = b'{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{"model":"chat"'


def with_body(members: bytes) -> bytes:
    """Padded, so that it is not its size that makes it light."""
    return START + b',"pad":"' + b"x" * LIGHT_BYTES + b'",' + members + b"}}"


def check(raw: bytes) -> list[tuple[str, str | None]]:
    judge = Checker(endpoint=CHAT, find_model=lambda name: ModelRules(name, frozenset({CHAT}), None))
    return [(found.code, found.param) for found in judge.check(Line(1, 0, raw, len(raw), len(raw) + 1))]


@pytest.mark.parametrize("value", [b"[]", b"{}", b'"x"'])
def test_arrays_objects_and_texts_make_a_line_heavy(value: bytes) -> None:
    few = b"[" + b",".join([value] * (MOST_VALUES - 100)) + b"]"
    many = b"[" + b",".join([value] * (MOST_VALUES + 1)) + b"]"
    assert not is_heavy(with_body(b'"x":' + few))
    assert is_heavy(with_body(b'"x":' + many))


def test_what_is_within_texts_does_not() -> None:
    text = json.dumps('[{"a": "b"}]' * MOST_VALUES).encode()
    assert not is_heavy(with_body(b'"x":' + text.replace(b",", b" ")))


def test_a_short_line_is_never_heavy() -> None:
    assert not is_heavy(START + b',"x":' + MANY[: LIGHT_BYTES // 2])


def test_a_heavy_member_of_the_upstreams_is_let_through() -> None:
    """V1: all else in the body is the upstream's to judge."""
    assert check(with_body(b'"x":' + MANY)) == []


@pytest.mark.parametrize("name", ["prompt", "max_tokens", "stream"])
def test_a_heavy_member_that_is_looked_at_is_too_large(name: str) -> None:
    """V9"""
    assert check(with_body(b'"%b":%b' % (name.encode(), MANY))) == [("line_too_large", f"body.{name}")]


def test_so_is_one_of_the_line() -> None:
    """V9"""
    assert check(b'{"custom_id":%b,"pad":%b}' % (MANY, MANY)) == [("line_too_large", "custom_id")]
    assert check(b'{"custom_id":"a","body":%b,"pad":%b}' % (MANY, MANY)) == [("line_too_large", "body")]


def test_what_else_is_wrong_with_a_heavy_line_is_told_all_the_same() -> None:
    """V2-V8"""
    raw = with_body(b'"enable_thinking":1,"x":' + MANY).replace(b'"POST"', b'"GET"').replace(b'"url"', b'"u"')
    assert check(raw) == [
        ("invalid_method", "method"),
        ("missing_required_parameter", "url"),
        ("invalid_type", "body.enable_thinking"),
    ]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"model"', b'"model":"other","model"'),
        (b'"model"', b'"mod\\u0065l":"other","model"'),
        (b'"method"', b'"method":"GET","method"'),
        (b'"body"', b'"body":{},"body"'),
        (b"[[]", b"[NaN,[]"),
        (b"[[]", b"[[],]"),
        (b"[[]", b'["\\ud83d",[]'),
        (b"[[]", b'["\xff",[]'),
        (b"[[]", b"[" * 100_000 + b"]" * 100_000 + b",[]"),
    ],
)
def test_a_heavy_line_that_is_not_one_json_object_is_refused(old: bytes, new: bytes) -> None:
    """V1"""
    raw = with_body(b'"x":' + MANY).replace(old, new, 1)
    assert check(raw) == [("invalid_json_line", None)]


def test_keys_within_other_members_may_come_twice_in_a_heavy_line_too() -> None:
    """V1: keys inside messages or tools are the upstream's."""
    inner = b'{"model":1,"model":2,"url":[{"body":1,"body":{"model":1,"model":2}}],"text":"\\"model\\":1,"}'
    raw = with_body(b'"x":%b,"y":%b' % (MANY, inner))
    assert check(raw) == []
    assert check(raw.replace(b"{", b'{"extra":{"model":1,"model":2},', 1)) == []


@pytest.mark.parametrize(
    ("value", "prompts"),
    [
        (b"[" + b"12," * MANY_ITEMS + b"12]", 1),
        (b"[ -1," + b"12," * MANY_ITEMS + b"12]", 1),
        (b"[[" + b"12," * MANY_ITEMS + b"12], [1], [ ]]", 3),
        (b"[" + b"[1,2,3]," * 200_000 + b"[]]", 200_001),
        (b'["a",' + b"12," * MANY_ITEMS + b"12]", MANY_ITEMS + 2),
    ],
    ids=["a list", "with a space", "lists", "many lists", "a mixture"],
)
def test_many_tokens_are_counted_and_not_built(value: bytes, prompts: int) -> None:
    """V9: a list of token ids is one input."""
    raw = with_body(b'"max_tokens":10,"prompt":' + value)
    assert is_heavy(raw)
    assert most_output_tokens(read_heavy(raw), 1) == 10 * prompts


scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text()
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)
bodies = st.fixed_dictionaries({}, optional={"model": st.text() | values, "stream": values, "n": values, "x": values})
keys = st.fixed_dictionaries(
    {}, optional={"custom_id": values, "method": st.just("POST"), "url": values, "body": bodies | values, "x": values}
)


@settings(max_examples=200)
@given(keys, st.booleans(), st.randoms(use_true_random=False))
def test_it_is_read_as_other_lines_are(content: dict[str, object], ascii_only: bool, order: random.Random) -> None:
    """V1-V8: to be heavy changes no judgement."""
    names = list(content)
    order.shuffle(names)
    raw = json.dumps({name: content[name] for name in names}, ensure_ascii=ascii_only).encode()
    try:
        found = read_heavy(raw)
    except InvalidLineError:
        with pytest.raises(msgspec.MsgspecError):
            msgspec.json.decode(raw)
        return
    expected = read_exactly(raw)
    for members in (found, expected):
        if isinstance(members.get("body"), dict):
            members["body"] = {}  # what is in it has paths of its own
    assert found == expected


def test_the_members_that_are_looked_at_are_measured_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heavy_lines, "MOST_VALUES", 3)
    assert read_heavy(b'{"custom_id":[1,2,3,4,5],"method":["a","b"]}') == {
        "custom_id": [1, 2, 3, 4, 5],
        "method": ["a", "b"],
    }
    with pytest.raises(TooManyValues, match="method"):
        read_heavy(b'{"custom_id":[],"method":["a","b","c"]}')
