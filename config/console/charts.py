"""Charts as the server draws them: SVG that takes the width it is given, with its numbers in words and in a table."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from config.console import scales
from config.console.scales import HEIGHT, WIDTH, Number, Shown

NOTHING = SafeString("")
WIDEST_BAR = 8  # per cent of the width


@dataclass(frozen=True, slots=True)
class Series:
    """`tone`: brand, failed, info, warning, violet or neutral (`chart-…` in the stylesheet)."""

    label: str
    values: Sequence[Number]
    tone: str = "brand"


@dataclass(frozen=True, slots=True)
class _Axis:
    """What lies along the bottom: `names` in full, a few `labels` that there is room for, `hints` under the mouse."""

    head: str
    names: Sequence[str]
    labels: Sequence[tuple[int, str]]
    hints: Sequence[str]


def area(
    title: str, times: Sequence[datetime], series: Sequence[Series], *, shown: Shown = scales.significant
) -> SafeString:
    """Over time. The first series is the whole, the others are parts of it: each is drawn from 0."""
    return _over_time(title, times, series, shown, filled=True)


def line(
    title: str, times: Sequence[datetime], series: Sequence[Series], *, shown: Shown = scales.significant
) -> SafeString:
    return _over_time(title, times, series, shown, filled=False)


def bars(
    title: str, days: Sequence[date], series: Sequence[Series], *, shown: Shown = scales.significant
) -> SafeString:
    """One a day; the series stand on each other, and a day's height is their sum."""
    names = [f"{day:%Y-%m-%d}" for day in days]
    axis = _Axis(_("Day"), names, scales.day_labels(days), names)
    sums = [sum(values) for values in zip(*(one.values for one in series), strict=True)]
    chart = _Chart(title, axis, series, sums, shown)
    top = chart.marks(sums)[-1]
    return chart.figure(sums, _bars(series, top, len(days)) if days else NOTHING)


def sparkline(values: Sequence[Number], label: str) -> SafeString:
    """As large as a word, beside the number that it is the past of."""
    top = float(max((*values, 0)) or 1)
    return format_html(
        '<svg class="sparkline" role="img" aria-label="{}" width="96" height="24" viewBox="0 0 {} {}" '
        'preserveAspectRatio="none"><path class="chart-line" d="{}"></path></svg>',
        label,
        WIDTH,
        HEIGHT,
        _path(scales.curve(values, top)) if values else "",
    )


def _over_time(
    title: str, times: Sequence[datetime], series: Sequence[Series], shown: Shown, *, filled: bool
) -> SafeString:
    names = _names(times)
    hints = [f"{name} · {time.astimezone(UTC):%Y-%m-%d %H:%M} UTC" for name, time in zip(names, times, strict=True)]
    axis = _Axis(_("Time"), names, scales.time_labels(times), hints)
    chart = _Chart(title, axis, series, series[0].values, shown)
    every = [value for one in series for value in one.values]
    top = chart.marks(every)[-1]
    curves = [_curve(one, top, filled=filled) for one in series] if times else []
    return chart.figure(every, _stretched(curves))


def _names(times: Sequence[datetime]) -> list[str]:
    """With the day where there is more than one."""
    local = [timezone.localtime(time) for time in times]
    form = "%H:%M" if len({time.date() for time in local}) < 2 else "%m-%d %H:%M"
    return [time.strftime(form) for time in local]


# Shapes


def _curve(series: Series, top: float, *, filled: bool) -> SafeString:
    points = _path(scales.curve(series.values, top))
    under = format_html('<path class="chart-area" d="{} V{} H0 Z"></path>', points, HEIGHT) if filled else NOTHING
    return format_html('<g class="chart-{}">{}<path class="chart-line" d="{}"></path></g>', series.tone, under, points)


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + " L".join(f"{x:.1f} {y:.2f}" for x, y in points)


def _stretched(shapes: Sequence[SafeString]) -> SafeString:
    """Within an SVG of its own, so that what is written beside the curves is not stretched with them."""
    return format_html(
        '<svg viewBox="0 0 {} {}" width="100%" height="100%" preserveAspectRatio="none">{}</svg>',
        WIDTH,
        HEIGHT,
        format_html_join("", "{}", ((shape,) for shape in shapes)),
    )


def _bars(series: Sequence[Series], top: float, count: int) -> SafeString:
    slot = 100 / count
    width = min(0.72 * slot, WIDEST_BAR)
    return format_html_join(
        "",
        '<rect class="chart-bar chart-{}" x="{}%" y="{}%" width="{}%" height="{}%"></rect>',
        (
            (series[which].tone, f"{(place + 0.5) * slot - width / 2:.3f}", f"{y:.2f}", f"{width:.3f}", f"{part:.2f}")
            for which, place, y, part in scales.stacked([one.values for one in series], top)
        ),
    )


# What is around them


@dataclass(frozen=True, slots=True)
class _Chart:
    title: str
    axis: _Axis
    series: Sequence[Series]
    told: Sequence[Number]  # the values that the summary is of
    shown: Shown

    def marks(self, values: Sequence[Number]) -> list[float]:
        """Of the axis on the left, from 0 on, for all these values."""
        return scales.ticks(max(values, default=0), whole=all(isinstance(value, int) for value in values))

    def figure(self, values: Sequence[Number], shapes: SafeString) -> SafeString:
        return format_html(
            '<figure class="chart"><figcaption class="chart-head"><h2>{}</h2> <span class="chart-summary">{}</span>'
            "</figcaption>{}</figure>",
            self.title,
            self._summary(),
            self._drawn(values, shapes) if self.told else format_html('<p class="chart-empty">{}</p>', "—"),
        )

    def _summary(self) -> str:
        if not self.told:
            return _("No data for this time yet")
        most = max(self.told)
        if not most:
            return _("Nothing up to %(time)s") % {"time": self.axis.names[-1]}  # what came since is not in it yet
        when = self.axis.names[self.told.index(most)]
        facts = {"latest": self.shown(self.told[-1]), "most": self.shown(most), "when": when}
        return _("Latest %(latest)s · most %(most)s (%(when)s)") % facts

    def _drawn(self, values: Sequence[Number], shapes: SafeString) -> SafeString:
        marks = self.marks(values)
        return format_html(
            '<div class="chart-plot"><div class="chart-scale" aria-hidden="true">{}</div>'
            '<svg class="chart-canvas" role="img" aria-label="{}">{}{}{}</svg>'
            '<svg class="chart-foot" aria-hidden="true">{}</svg></div>{}{}',
            format_html_join("", "<span>{}</span>", ((scales.compact(mark),) for mark in reversed(marks))),
            f"{self.title}. {self._summary()}.",
            _grid(len(marks)),
            shapes,
            self._columns(),
            self._labels(),
            self._legend(),
            self._table(),
        )

    def _columns(self) -> SafeString:
        """Over each value an unseen column that says it under the mouse. For all others there is the table."""
        slot = 100 / len(self.axis.names)
        return format_html_join(
            "",
            '<rect class="chart-hit" x="{}%" width="{}%" height="100%"><title>{}</title></rect>',
            (
                (f"{place * slot:.3f}", f"{slot:.3f}", "\n".join((hint, *self._said(place))))
                for place, hint in enumerate(self.axis.hints)
            ),
        )

    def _said(self, place: int) -> list[str]:
        return [f"{one.label}: {self.shown(one.values[place])}" for one in self.series]

    def _labels(self) -> SafeString:
        slot = 100 / len(self.axis.names)
        placed = ((f"{(place + 0.5) * slot:.2f}", text) for place, text in self.axis.labels)
        return format_html_join("", '<text x="{}%" y="13" text-anchor="middle">{}</text>', placed)

    def _legend(self) -> SafeString:
        if len(self.series) < 2:
            return NOTHING
        rows = format_html_join(
            "",
            '<li class="chart-{}"><svg class="chart-key" aria-hidden="true" width="14" height="8">'
            '<rect class="chart-bar" width="14" height="8" rx="2"></rect></svg>{}</li>',
            ((one.tone, one.label) for one in self.series),
        )
        return format_html('<ul class="legend">{}</ul>', rows)

    def _table(self) -> SafeString:
        """The latest on top."""
        return format_html(
            '<details class="chart-data"><summary>{}</summary><div class="table-box" tabindex="0" role="region" '
            'aria-label="{}"><table class="table"><thead><tr><th scope="col">{}</th>{}</tr></thead>'
            "<tbody>{}</tbody></table></div></details>",
            _("As a table"),
            self.title,
            self.axis.head,
            format_html_join("", '<th scope="col" class="num">{}</th>', ((one.label,) for one in self.series)),
            format_html_join("", "{}", ((self._row(place),) for place in reversed(range(len(self.axis.names))))),
        )

    def _row(self, place: int) -> SafeString:
        cells = ((self.shown(one.values[place]),) for one in self.series)
        return format_html(
            '<tr><th scope="row" title="{}">{}</th>{}</tr>',
            self.axis.hints[place],
            self.axis.names[place],
            format_html_join("", '<td class="num">{}</td>', cells),
        )


def _grid(count: int) -> SafeString:
    heights = ((f"{100 * place / (count - 1):.4g}%",) for place in range(count))
    return format_html_join("", '<line class="chart-grid" x2="100%" y1="{0}" y2="{0}"></line>', heights)
