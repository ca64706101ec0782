"""B2: how long a batch may take."""

import re
from datetime import timedelta

UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1)}
SHORTEST, LONGEST = timedelta(days=1), timedelta(days=14)
SUPPORTED = "'24h' to '336h' and '1d' to '14d'"


def parse_window(text: str) -> timedelta | None:
    found = re.fullmatch(r"([1-9][0-9]{0,2})([hd])", text)
    if not found:
        return None
    window = int(found[1]) * UNITS[found[2]]
    return window if SHORTEST <= window <= LONGEST else None
