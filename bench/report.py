"""Figures beside their goals, as one table and as JSON."""

import json
import os
import platform
import subprocess
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    part: str
    name: str
    value: float
    unit: str
    at_least: float | None = None
    at_most: float | None = None
    note: str = ""

    @property
    def goal(self) -> str:
        if self.at_least is not None:
            return f"≥ {_number(self.at_least)}"
        return f"≤ {_number(self.at_most)}" if self.at_most is not None else ""

    @property
    def met(self) -> bool | None:
        """None where there is no goal."""
        if self.at_least is not None:
            return self.value >= self.at_least
        return self.value <= self.at_most if self.at_most is not None else None


def table(figures: list[Figure]) -> str:
    rows = [("", "figure", "value", "unit", "goal", "", "note")]
    for figure in figures:
        verdict = {True: "ok", False: "MISSED", None: ""}[figure.met]
        rows.append(
            (figure.part, figure.name, _number(figure.value), figure.unit, figure.goal, verdict, figure.note),
        )
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    return "\n".join(_line(row, widths) for row in rows)


def write_json(path: Path, figures: list[Figure]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [asdict(figure) | {"met": figure.met} for figure in figures]
    path.write_text(json.dumps({"machine": _machine(), "figures": rows}, indent=2, ensure_ascii=False) + "\n")


def _line(row: tuple[str, ...], widths: list[int]) -> str:
    part, name, value, *others = row
    cells = [part.ljust(widths[0]), name.ljust(widths[1]), value.rjust(widths[2])]
    cells += [cell.ljust(width) for cell, width in zip(others, widths[3:], strict=False)]
    return "  ".join([*cells, row[6]]).rstrip()


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def _machine() -> dict[str, Any]:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit,
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
        "python": platform.python_version(),
        "database": os.environ.get("DATABASE_URL", "sqlite").split(":")[0],
    }
