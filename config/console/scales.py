"""Where things lie on a chart, and what its axes say."""

from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from math import ceil, floor, log10

from django.utils import timezone

Number = int | float | Decimal
Shown = Callable[[Number], str]

MOST_TICKS = 4
MOST_LABELS = 5  # beside each other there is no room for more on a phone
WIDTH, HEIGHT = 1000, 100  # units of a path; it is stretched to the room there is
_STEPS = (1, 2, 5, 10)
_MINUTES = tuple(timedelta(minutes=minutes) for minutes in (1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440))
_UNITS = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))


def ticks(most: Number, *, whole: bool = False) -> list[float]:
    """Round numbers from 0 to the first that is not below `most`."""
    if not most > 0:
        return [0, 1]
    step = _round_up(float(most) / MOST_TICKS)
    step = max(1, step) if whole else step
    return [step * number for number in range(ceil(float(most) / step * (1 - 1e-9)) + 1)]


def _round_up(step: float) -> float:
    power: float = 10.0 ** floor(log10(step))
    return next(factor * power for factor in _STEPS if factor * power >= step * (1 - 1e-9))


def compact(value: Number) -> str:
    """For an axis: 1.5k, 20M."""
    number = float(value)
    size, unit = next(((size, unit) for size, unit in _UNITS if number >= size), (1, ""))
    return f"{number / size:.4g}{unit}"


def significant(value: Number) -> str:
    """Three digits of a measured value; of one from 100 on, the whole."""
    if isinstance(value, int) or abs(float(value)) >= 100:
        return f"{round(value):,}"
    return f"{float(value):.3g}"


def short(value: Number) -> str:
    """1.25M: for what is large and changes all the time, or has all its digits beside it."""
    return significant(value) if value < 1000 else compact(float(f"{value:.3g}"))


def curve(values: Sequence[Number], top: float) -> list[tuple[float, float]]:
    """A point in the middle of each value's share of the width; the first and the last reach to the edges."""
    slot = WIDTH / len(values)
    points = [((place + 0.5) * slot, height(value, top)) for place, value in enumerate(values)]
    return [(0, points[0][1]), *points, (WIDTH, points[-1][1])]


def height(value: Number, top: float) -> float:
    """From the top, as SVG counts."""
    return HEIGHT * (1 - float(value) / top)


def time_labels(times: Sequence[datetime]) -> list[tuple[int, str]]:
    """Round times of the viewer's day, each with the place of the value it is that of."""
    local = [timezone.localtime(time) for time in times]
    if not local:
        return []
    span = local[-1] - local[0]
    step = next((step for step in _MINUTES if span / step <= MOST_LABELS), _MINUTES[-1])
    return [(place, f"{time:%H:%M}") for place, time in enumerate(local) if not _since_midnight(time) % step]


def _since_midnight(time: datetime) -> timedelta:
    return timedelta(hours=time.hour, minutes=time.minute, seconds=time.second)


def day_labels(days: Sequence[date]) -> list[tuple[int, str]]:
    """As many as there is room for, the last day among them."""
    every = max(1, ceil(len(days) / MOST_LABELS))
    return [(place, f"{day:%m-%d}") for place, day in enumerate(days) if not (len(days) - 1 - place) % every]


def stacked(rows: Sequence[Sequence[Number]], top: float) -> Iterator[tuple[int, int, float, float]]:
    """Which of the rows, which place, how far from the top and how high, in per cent: each on what is before it."""
    below = [0.0] * len(rows[0])
    for which, row in enumerate(rows):
        for place, value in enumerate(row):
            part = float(value) / top * HEIGHT
            below[place] += part
            if part:
                yield which, place, HEIGHT - below[place], part
