import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psutil

from bench import answering, console, crowds, lanes, transfers, validating
from bench.report import Figure, table, write_json

PARTS: dict[str, Callable[[], Iterator[Figure]]] = {
    "a": lanes.run,
    "b": validating.run,
    "c": transfers.run,
    "d": answering.run_small_batches,
    "e": answering.run_calls,
    "f": console.run,
    "g": crowds.run,
}
DESCRIPTION = """Measures a real installation on this machine, beside its goals: (a) requests to an upstream,
(b) validation, (c) uploads and downloads, (d) a small batch, (e) GET /batches/{id}, (f) the console's pages,
(g) one tenant beside many, and beside slow clients.
On SQLite, or on DATABASE_URL."""


def main() -> None:
    options = _options()
    figures: list[Figure] = []
    parts = PARTS | {"f": partial(console.run, options.batches)}
    for part in options.only:
        start = time.monotonic()
        print(f"({part}) …", end="", file=sys.stderr, flush=True)
        others = Others()
        figures += [*parts[part](), others.figure(part)]
        print(f" {time.monotonic() - start:.0f} s", file=sys.stderr)
    print(table(figures))
    write_json(options.json, figures)


class Others:
    """How much of the machine other programs used meanwhile: with much of it, only CPU times and ratios count."""

    def __init__(self) -> None:
        self._before = self._busy_and_ours()

    def figure(self, part: str) -> Figure:
        busy, ours, at = (now - then for now, then in zip(self._busy_and_ours(), self._before, strict=True))
        share = max(0.0, busy - ours) / at / (psutil.cpu_count() or 1) * 100
        return Figure(part, "machine used by others meanwhile", share, "%")

    @staticmethod
    def _busy_and_ours() -> tuple[float, float, float]:
        whole, own = psutil.cpu_times(), os.times()
        busy = sum(whole) - whole.idle - whole.iowait
        # The installation's processes have ended by now, and so are in ours.
        ours = own.user + own.system + own.children_user + own.children_system
        return busy, ours, time.monotonic()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=DESCRIPTION)
    parser.add_argument("--only", type=_parts, default=list(PARTS), metavar="a,b,…", help="these parts")
    parser.add_argument("--batches", type=int, metavar="N", help="of the console's installation")
    parser.add_argument("--json", type=Path, default=Path("bench/results.json"), metavar="FILE")
    return parser.parse_args()


def _parts(text: str) -> list[str]:
    parts = text.split(",")
    if unknown := set(parts) - set(PARTS):
        raise argparse.ArgumentTypeError(f"no such part: {', '.join(sorted(unknown))}")
    return parts


if __name__ == "__main__":
    main()
