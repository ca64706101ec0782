"""What a chart says and where it says it; how it looks is for the eye."""

import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from xml.etree import ElementTree
from zoneinfo import ZoneInfo

import pytest
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from config.console import scales
from config.console.charts import Series, area, bars, line, sparkline

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
HOUR = [NOON + timedelta(minutes=minute) for minute in range(60)]
DAYS = [date(2026, 11, 1) + timedelta(days=day) for day in range(24)]


def drawn(figure: str) -> ElementTree.Element:
    """Each figure is well-formed: what is read here is what a browser builds."""
    return ElementTree.fromstring(figure)


def texts(figure: str, path: str) -> list[str]:
    return ["".join(found.itertext()) for found in drawn(figure).findall(path)]


def in_one(figure: str, name: str) -> ElementTree.Element:
    (found,) = (one for one in drawn(figure).iter() if one.get("class") == name)
    return found


def points(figure: str) -> list[tuple[float, float]]:
    (path,) = re.findall(r'class="chart-line" d="M([^"]+)"', figure)
    return [(float(x), float(y)) for x, y in (point.split() for point in path.split(" L"))]


# Numbers on axes


@given(st.floats(1e-9, 1e15))
def test_an_axis_has_few_round_marks_that_hold_the_largest_value(most: float) -> None:
    marks = scales.ticks(most)
    assert marks[0] == 0
    assert marks[-1] >= most * (1 - 1e-9)
    assert 2 <= len(marks) <= 6
    assert f"{marks[1]:.0e}"[0] in "125"
    assert len({scales.compact(mark) for mark in marks}) == len(marks)  # no two read the same


def test_marks_of_counts_are_whole() -> None:
    assert scales.ticks(1, whole=True) == [0, 1]
    assert scales.ticks(3, whole=True) == [0, 1, 2, 3]


def test_nothing_at_all_has_an_axis_too() -> None:
    assert scales.ticks(0) == [0, 1]


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.25, "0.25"), (950, "950"), (1500, "1.5k"), (2e6, "2M"), (1e9, "1B"), (5e12, "5T")]
)
def test_an_axis_says_large_numbers_shortly(value: float, text: str) -> None:
    assert scales.compact(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (0.01234, "0.0123"), (7, "7"), (29.64, "29.6"), (99.96, "100"), (123456.7, "123,457")],
)
def test_a_measured_value_has_three_digits(value: float, text: str) -> None:
    assert scales.significant(value) == text


# Over time


def test_a_chart_says_in_words_what_it_shows() -> None:
    values = [1.0] * 30 + [45.6] + [12.3] * 29
    figure = area("Requests per second", HOUR, [Series("All", values)])
    assert "Latest 12.3 · most 45.6 (12:30)" in figure
    assert in_one(figure, "chart-canvas").get("aria-label") == ("Requests per second. Latest 12.3 · most 45.6 (12:30).")
    assert in_one(figure, "chart-canvas").get("role") == "img"


def test_every_value_is_in_a_table_the_latest_first() -> None:
    figure = line("t", HOUR, [Series("Input", list(range(60))), Series("Output", [5] * 60)])
    rows = [["".join(cell.itertext()) for cell in row] for row in drawn(figure).iter("tr")]
    assert rows[:3] == [["Time", "Input", "Output"], ["12:59", "59", "5"], ["12:58", "58", "5"]]
    assert len(rows) == 61


def test_a_higher_value_lies_higher_and_none_leaves_the_chart() -> None:
    values = [0, 10, 40, 25]
    first, *inner, last = points(area("t", HOUR[:4], [Series("a", values)]))
    heights = [y for _, y in inner]
    assert sorted(range(4), key=lambda place: -heights[place]) == sorted(range(4), key=values.__getitem__)
    assert all(0 <= y <= scales.HEIGHT for y in heights)
    assert (first[0], last[0]) == (0, scales.WIDTH)


def test_a_part_is_drawn_on_the_scale_of_the_whole() -> None:
    figure = area("t", HOUR[:2], [Series("All", [40, 40]), Series("Failed", [10, 10], "failed")])
    assert figure.count("chart-line") == 2
    assert " 75.00 L" in figure  # a quarter of 40
    assert texts(figure, ".//ul/li") == ["All", "Failed"]


def test_one_series_needs_no_legend() -> None:
    assert "legend" not in area("t", HOUR, [Series("All", [1] * 60)])


def test_times_are_those_of_the_viewer() -> None:
    with timezone.override(ZoneInfo("Asia/Kolkata")):
        figure = area("t", HOUR, [Series("a", [1] * 60)])
    assert texts(figure, ".//*[@class='chart-foot']/text") == ["17:30", "17:45", "18:00", "18:15"]


def test_utc_is_told_under_the_mouse_and_in_the_table() -> None:
    with timezone.override(ZoneInfo("Asia/Kolkata")):
        figure = area("t", HOUR, [Series("a", [7] * 60)])
    hint = "17:30 · 2026-11-24 12:00 UTC"
    assert texts(figure, ".//*[@class='chart-hit']/title")[0] == f"{hint}\na: 7"
    assert [one.get("title") for one in drawn(figure).findall(".//tbody/tr/th")][-1] == hint


def test_a_time_says_its_day_where_there_are_two() -> None:
    night = [NOON + timedelta(hours=11, minutes=minute) for minute in range(120)]
    assert "(11-24 23:00)" in area("t", night, [Series("a", [9] + [1] * 119)])


@given(st.integers(1, 3000))
def test_there_are_never_more_times_than_have_room(minutes: int) -> None:
    assert len(scales.time_labels([NOON + timedelta(minutes=n) for n in range(minutes)])) <= scales.MOST_LABELS + 1


# What there may be instead of a curve


def test_no_data_is_said() -> None:
    for figure in (
        area("t", [], [Series("a", [])]),
        line("t", [], [Series("a", [])]),
        bars("t", [], [Series("a", [])]),
    ):
        assert "No data for this time yet" in figure
        assert "<svg" not in figure
        assert drawn(figure).tag == "figure"


def test_all_zeros_are_a_line_along_the_ground() -> None:
    figure = area("t", HOUR, [Series("a", [0] * 60)])
    assert "Nothing up to 12:59" in figure
    assert {y for _, y in points(figure)} == {scales.HEIGHT}


def test_one_value_is_as_wide_as_the_chart() -> None:
    assert points(area("t", HOUR[:1], [Series("a", [3])]))[::2] == [(0, 0), (scales.WIDTH, 0)]


def test_a_huge_spike_fits() -> None:
    figure = area("t", HOUR, [Series("a", [1] * 59 + [10**15])])
    assert "1000T" in figure
    assert min(y for _, y in points(figure)) == 0


# Bars


def test_bars_stand_on_each_other() -> None:
    figure = bars(
        "Spend", DAYS[:2], [Series("a", [Decimal(1), Decimal(3)]), Series("b", [Decimal(1), Decimal(0)], "info")]
    )
    found = [one for one in drawn(figure).iter("rect") if (one.get("class") or "").startswith("chart-bar chart-")]
    lower, other_day, upper = found  # and nothing for what is 0
    assert lower.get("x") == upper.get("x") != other_day.get("x")
    assert upper.get("y") == "33.33%"
    assert (lower.get("y"), lower.get("height")) == ("66.67%", "33.33%")
    assert "Latest 3 · most 3 (2026-11-02)" in figure


def test_the_last_day_is_named() -> None:
    labels = texts(bars("t", DAYS, [Series("a", list(range(24)))]), ".//*[@class='chart-foot']/text")
    assert labels[-1] == "11-24"
    assert len(labels) <= scales.MOST_LABELS


def test_the_caller_says_how_values_read() -> None:
    figure = bars("t", DAYS[:1], [Series("a", [Decimal("1.5")])], shown=lambda value: f"{value} USD")
    assert "most 1.5 USD" in figure
    assert "a: 1.5 USD" in figure


# All of them


def test_nothing_in_a_chart_needs_a_style_or_a_script() -> None:
    """The policy of the pages forbids both."""
    for figure in (
        area("t", HOUR, [Series("a", [1] * 60)]),
        bars("t", DAYS, [Series("a", [1] * 24)]),
        sparkline([1, 2], "x"),
    ):
        assert not {name for one in drawn(figure).iter() for name in one.attrib if name == "style" or name[:2] == "on"}


def test_hostile_text_stays_text() -> None:
    evil = '"><script>alert(1)</script>'
    for figure in (bars(evil, DAYS, [Series(evil, [1] * 24), Series("b", [1] * 24)]), sparkline([1], evil)):
        assert "<script" not in figure
        drawn(figure)


def test_a_sparkline_of_nothing_is_empty() -> None:
    assert 'd=""' in sparkline([], "x")
