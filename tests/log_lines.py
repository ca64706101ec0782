"""What this process logs, as an installation would write it."""

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from config import logs


class Written:
    def __init__(self) -> None:
        self.stream = io.StringIO()

    @property
    def text(self) -> str:
        return self.stream.getvalue()

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The newest is the last one."""
        return [json.loads(line) for line in self.text.splitlines()]

    def named(self, logger: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["logger"] == logger]


@contextmanager
def written(style: str = logs.JSON, level: int = logging.DEBUG) -> Iterator[Written]:
    """Of all that is logged at `level` or above."""
    found, root = Written(), logging.getLogger()
    handler = logging.StreamHandler(found.stream)
    handler.setFormatter(logs.formatter(style))
    handler.addFilter(logs.Discreet())
    before = root.level
    root.addHandler(handler)
    root.setLevel(level)
    try:
        yield found
    finally:
        root.setLevel(before)
        root.removeHandler(handler)
