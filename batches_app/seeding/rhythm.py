"""When batches were created: more at night, fewer at weekends, more of them every week."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import accumulate
from random import Random

DAYS = 60
_HOUR = timedelta(hours=1)
_BY_HOUR = (9, 8, 7, 6, 5, 4, 3, 3, 4, 5, 5, 5, 4, 4, 4, 5, 5, 4, 4, 5, 6, 8, 10, 10)


def moments(count: int, rng: Random, *, now: datetime) -> Iterator[datetime]:
    """In order; now and then several within the same second, as a script creates them."""
    start = now - timedelta(days=DAYS)
    hours = [start + number * _HOUR for number in range(DAYS * 24)]
    sums = list(accumulate(_weight(hour, (hour - start).days) for hour in hours))
    made = 0
    for hour, reached in zip(hours, sums, strict=True):
        due = round(count * reached / sums[-1])
        yield from _within(hour, due - made, rng)
        made = due


def _weight(hour: datetime, day: int) -> float:
    return _BY_HOUR[hour.hour] * (0.45 if hour.weekday() >= 5 else 1) * (0.6 + 0.4 * day / DAYS)


def _within(hour: datetime, count: int, rng: Random) -> Iterator[datetime]:
    seconds = sorted(rng.uniform(0, 3600) for _ in range(count))
    last = 0.0
    for second in seconds:
        last = last + 0.01 if rng.random() < 0.03 else max(second, last)
        yield hour + timedelta(seconds=min(last, 3599.9))
