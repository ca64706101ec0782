from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batches_app.api.windows import parse_window


@given(st.integers(-10, 1_000))
def test_hours(hours: int) -> None:
    """B2: 24h…336h."""
    assert parse_window(f"{hours}h") == (timedelta(hours=hours) if 24 <= hours <= 336 else None)


@given(st.integers(-10, 1_000))
def test_days(days: int) -> None:
    """B2: 1d…14d."""
    assert parse_window(f"{days}d") == (timedelta(days=days) if 1 <= days <= 14 else None)


@pytest.mark.parametrize("text", ["24h", "25h", "335h", "336h", "1d", "2d", "13d", "14d"])
def test_bounds(text: str) -> None:
    """B2: the bounds are within."""
    assert parse_window(text) == timedelta(**{"hours" if text.endswith("h") else "days": int(text[:-1])})


@pytest.mark.parametrize("text", ["0h", "23h", "337h", "1000h", "0d", "15d", "100d", "1000d", "-24h", "+24h"])
def test_out_of_bounds(text: str) -> None:
    """B2: and one hour or day more or less is not."""
    assert parse_window(text) is None


@pytest.mark.parametrize(
    "text", ["", "24", "h", "1.5d", "024h", "24H", " 24h", "24h\n", "1w", "1d1h", "\uff12\uff14h", "9" * 5_000 + "h"]
)
def test_anything_else(text: str) -> None:
    """B2: an integer with h or d, and nothing but."""
    assert parse_window(text) is None
