import csv
from collections.abc import Iterator
from decimal import Decimal
from io import StringIO

import pytest

from config.console.csv import CHUNK, stream


def rows_of(*rows: list[object]) -> list[list[str]]:
    answer = stream("t.csv", ["head"], rows)
    text = b"".join(answer).decode("utf-8-sig")
    return list(csv.reader(StringIO(text, newline="")))[1:]


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", " =", "\u00a0@", "\uff1d"])
def test_no_cell_is_a_formula(start: str) -> None:
    """Nor a header: both may be a tenant's text."""
    formula = f"{start}HYPERLINK(1)"
    assert rows_of([formula]) == [[f"'{formula}"]]
    assert b"'=x" in b"".join(stream("t.csv", ["=x"], []))


def test_numbers_stay_numbers() -> None:
    numbers = [-1, Decimal("-0.000000000001"), "-12.5", "+49", 0, ""]
    assert rows_of(numbers) == [["-1", "-0.000000000001", "-12.5", "+49", "0", ""]]
    assert rows_of(["-1+cmd|' /C calc'!A0", "+1-1", "-"]) == [["'-1+cmd|' /C calc'!A0", "'+1-1", "'-"]]


def test_what_is_not_there_is_empty_and_nothing_else_is_bent() -> None:
    assert rows_of([None, 'a "b"', "c,\nd", "价格", "a=b"]) == [["", 'a "b"', "c,\nd", "价格", "a=b"]]


def test_rows_are_sent_while_more_are_made() -> None:
    made: list[int] = []

    def many() -> Iterator[list[object]]:
        for number in range(10_000):
            made.append(number)
            yield ["x" * 99]

    first = next(iter(stream("t.csv", ["head"], many())))
    assert CHUNK <= len(first) < 2 * CHUNK
    assert len(made) < 1000


def test_a_spreadsheet_knows_its_name_and_its_letters() -> None:
    answer = stream("用量 2026.csv", ["head"], [])
    assert answer["Content-Disposition"].startswith("attachment; filename*=utf-8''")
    assert answer["Cache-Control"] == "no-store"
    assert b"".join(answer).startswith(b"\xef\xbb\xbfhead")
