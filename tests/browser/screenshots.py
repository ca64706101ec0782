"""Pictures of every page and its states, on a desk and on a phone, light and dark: `make screenshots`.

python -m tests.browser.screenshots [--language zh-CN] [--only NAME]… [FOLDER]
"""

import argparse
import tempfile
import time
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.browser.installation import Installation, new, running
from tests.browser.places import FIRST_PLACES, Place, places
from tests.browser.visitor import Visitor, launch, program, show_all

ROOT = Path(__file__).resolve().parents[2]
BATCHES, WORKERS = 20_000, 7
SIZES = {1280: 900, 360: 740}
# For the README: name, width, scheme.
CHOSEN = (
    ("overview", 1280, "light"),
    ("batches", 1280, "light"),
    ("batch", 1280, "dark"),
    ("batches", 360, "dark"),
)
# Of most models the upstream is there: their seeded batches go on.
SERVE = """
from batches_app.models import Lane, ServedModel
there = ["qwen3-235b-a22b", "qwen3-vl-flash", "deepseek-v3.2", "gpt-oss-120b", "kimi-k2", "bge-m3"]
ServedModel.objects.filter(name__in=there).update(upstream_url="{url}")
Lane.objects.update(lease_expires_at=None, owner="")
"""


def main() -> None:
    options = _options()
    if (path := program()) is None:
        raise SystemExit("Chromium is not installed: apt-get install chromium fonts-noto-cjk")
    with (
        tempfile.TemporaryDirectory(prefix="batchdesk-screenshots-") as folder,
        running(Path(folder), batches=BATCHES, workers=WORKERS, change=SERVE) as installation,
        new(Path(folder, "new")) as new_installation,
        sync_playwright() as playwright,
        launch(playwright, path) as browser,
    ):
        _set_going(installation)
        for picture in _pictures(Visitor(browser, installation), places(installation), options):
            print(picture)
        for picture in _pictures(Visitor(browser, new_installation), FIRST_PLACES, options):
            print(picture)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.browser.screenshots")
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "var" / "screenshots")
    parser.add_argument("--language", default="en")
    parser.add_argument("--only", action="append", metavar="NAME", help="of a page")
    parser.add_argument("--choose", action="store_true", help="put the README's into docs/")
    return parser.parse_args()


def _set_going(installation: Installation) -> None:
    """Work that is under way: slow enough to be seen, and as much as on a usual day."""
    installation.upstream.control.set(heavy_tail=[35_000, 90_000])
    time.sleep(150)  # charts show whole minutes


def _pictures(visitor: Visitor, shown: Mapping[str, Place], options: argparse.Namespace) -> Iterator[Path]:
    for name, place in shown.items():
        if options.only and name not in options.only:
            continue
        for width, scheme in product(SIZES, ("light", "dark")):
            page = place.seen_by(visitor, width=width, height=SIZES[width], scheme=scheme, language=options.language)
            page.wait_for_load_state("networkidle")
            path = options.folder / f"{name.replace(' ', '-')}-{width}-{scheme}.png"
            if options.choose and (name, width, scheme) in CHOSEN:
                page.screenshot(path=ROOT / "docs" / path.name)
            # Not `full_page`: what sticks to the window's edges would end in the middle of the picture.
            show_all(page, width, SIZES[width])
            page.screenshot(path=path)
            visitor.close()
            yield path


if __name__ == "__main__":
    main()
