"""What happened, counted by all processes."""

from functools import partial

import pytest

from billing_app import running_counts
from tests.threads import at_once


@pytest.mark.django_db(transaction=True)
def test_nothing_is_lost_when_all_add_at_once() -> None:
    """Also while there is no such count yet."""
    at_once([partial(running_counts.add, name, 2) for name in ("a", "b") for _ in range(8)])
    assert running_counts.all_named() == {"a": 16, "b": 16}
