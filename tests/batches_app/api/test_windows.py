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


@pytest.mark.parametrize(
    "text", ["", "24", "h", "1.5d", "024h", "24H", " 24h", "24h\n", "1w", "1d1h", "\uff12\uff14h", "9" * 5_000 + "h"]
)
def test_anything_else(text: str) -> None:
    """B2: an integer with h or d, and nothing but."""
    assert parse_window(text) is None
