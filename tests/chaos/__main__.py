"""Kills, floods, lies and trespasses, and then counts: `make chaos MINUTES=10 SEED=1`.

python -m tests.chaos [--minutes 10] [--seed N] [--every SECONDS] [--accounts 20]
"""

import argparse
import logging
import random
import sys

from tests.chaos.storm import Storm

DESCRIPTION = """A real installation on PostgreSQL and Redis of its own, tenants at work, and one fault after another.
At the end every request must have its one answer, and every answer its one charge. Exits 1 where anything is broken,
and where a figure that the README promises is missed."""


def main() -> None:
    options = _options()
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.WARNING)
    print(f"seed {options.seed}", flush=True)
    storm = Storm(options.seed, seconds=options.minutes * 60, every=options.every, accounts=options.accounts)
    report = storm.run()
    print(report.text())
    sys.exit(1 if report.broken or report.missed else 0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=DESCRIPTION)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=random.randrange(10_000), help="the same seed, the same plan")
    parser.add_argument("--every", type=float, default=2.5, metavar="SECONDS", help="between two faults")
    parser.add_argument("--accounts", type=int, default=20)
    return parser.parse_args()


if __name__ == "__main__":
    main()
