"""What pages are made of."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from django.utils import timezone, translation

from config.templatetags import console

AT = datetime(2026, 3, 7, 4, 5, 6, tzinfo=UTC)


def test_a_moment_is_in_the_viewers_zone_and_has_utc_on_hover() -> None:
    with timezone.override(ZoneInfo("Asia/Shanghai")):
        shown = console.moment(AT)
    assert ">2026-03-07 12:05:06</time>" in shown
    assert 'title="2026-03-07 04:05:06 UTC"' in shown
    assert 'datetime="2026-03-07T04:05:06+00:00"' in shown


def test_what_is_to_come_and_what_was_are_told_apart() -> None:
    now = timezone.now()
    assert ">in 2 h 0 min<" in console.ago(now + timedelta(hours=2, seconds=1))
    assert ">3 d 1 h ago<" in console.ago(now - timedelta(days=3, hours=1, seconds=1))
    assert console.ago(None) == console.moment(None) == "—"


def test_an_id_can_be_copied_whole_and_leads_to_its_page() -> None:
    shown = console.copied("batch_1", "/console/batches/batch_1")
    assert '<a href="/console/batches/batch_1"><code>batch_1</code></a>' in shown
    assert 'data-copy="batch_1" aria-label="Copy batch_1"' in shown
    assert "<a " not in console.copied("batch_1")
    with translation.override("zh-hans"):
        assert "Copy" not in console.copied("batch_1")


def test_an_id_is_text_whatever_it_holds() -> None:
    shown = console.copied('"><script>', 'x"><script>')
    assert "<script>" not in shown
    assert shown.count("&quot;&gt;&lt;script&gt;") == 4


@pytest.mark.parametrize(
    ("part", "whole", "said"),
    [(1, 3, "33 %"), (1, 2000, "<0.1 %"), (1999, 2000, ">99.9 %"), (0, 5, "0 %"), (5, 5, "100 %"), (1, 0, "—")],
)
def test_a_share_is_never_rounded_to_nothing_or_all(part: int, whole: int, said: str) -> None:
    assert console.share(part, whole) == said


@pytest.mark.parametrize(("used", "tone"), [(79, "ok"), (80, "warning"), (Decimal(100), "danger"), (240, "danger")])
def test_a_meter_warns_from_four_fifths_on(used: int | Decimal, tone: str) -> None:
    assert f"meter-{tone}" in console.meter(used, 100)
