"""Charts as the server draws them: SVG that takes the width it is given, with its numbers in words and in a table."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _

from config.console import scales
from config.console.scales import HEIGHT, WIDTH, Number, Shown

NOTHING = mark_safe("")


@dataclass(frozen=True, slots=True)
class Series:
    """`tone`: brand, failed, info, warning, violet or neutral (`chart-…` in the stylesheet)."""

    label: str
    values: Sequence[Number]
    tone: str = "brand"


@dataclass(frozen=True, slots=True)
class _Axis:
    """What lies along the bottom: `names` in full, and a few `labels` that there is room for."""

    head: str
    names: Sequence[str]
    labels: Sequence[tuple[int, str]]


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
    axis = _Axis(_("Day"), [f"{day:%Y-%m-%d}" for day in days], scales.day_labels(days))
    sums = [sum(values) for values in zip(*(one.values for one in series), strict=True)]
    if not days:
        return _figure(title, _summary(axis, sums, shown), NOTHING, series, NOTHING)
    marks = scales.ticks(max(sums), whole=_are_whole(series))
    plot = _plot(title, axis, sums, series, marks, _bars(series, marks[-1], len(days)), shown)
    return _figure(title, _summary(axis, sums, shown), plot, series, _table(title, axis, series, shown))


def sparkline(values: Sequence[Number], label: str) -> SafeString:
    """As large as a word, beside the number that it is the past of."""
    top = max((*values, 0)) or 1
    path = _path(scales.curve(values, float(top))) if values else ""
    return format_html(
        '<svg class="sparkline" role="img" aria-label="{}" width="96" height="24" viewBox="0 0 {} {}" '
        'preserveAspectRatio="none"><path class="chart-line chart-brand" d="{}"></path></svg>',
        label,
        WIDTH,
        HEIGHT,
        path,
    )


def _over_time(
    title: str, times: Sequence[datetime], series: Sequence[Series], shown: Shown, *, filled: bool
) -> SafeString:
    axis = _Axis(_("Time"), _names(times), scales.time_labels(times))
    leading = series[0].values
    if not times:
        return _figure(title, _summary(axis, leading, shown), NOTHING, series, NOTHING)
    marks = scales.ticks(max(max(one.values) for one in series), whole=_are_whole(series))
    shapes = [_curve(one, marks[-1], filled=filled) for one in series]
    plot = _plot(title, axis, leading, series, marks, _stretched(shapes), shown)
    return _figure(title, _summary(axis, leading, shown), plot, series, _table(title, axis, series, shown))


def _names(times: Sequence[datetime]) -> list[str]:
    """With the day where there is more than one."""
    local = [timezone.localtime(time) for time in times]
    form = "%H:%M" if len({time.date() for time in local}) < 2 else "%m-%d %H:%M"
    return [time.strftime(form) for time in local]


def _are_whole(series: Sequence[Series]) -> bool:
    return all(isinstance(value, int) for one in series for value in one.values)


def _summary(axis: _Axis, values: Sequence[Number], shown: Shown) -> str:
    if not values:
        return _("No data for this time yet")
    most = max(values)
    if not most:
        return _("Nothing in this time")
    at = axis.names[values.index(most)]
    return _("Latest %(latest)s · most %(most)s (%(when)s)") % {
        "latest": shown(values[-1]),
        "most": shown(most),
        "when": at,
    }


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
    return format_html_join(
        "",
        '<rect class="chart-bar chart-{}" x="{}%" y="{}%" width="{}%" height="{}%"></rect>',
        (
            (series[which].tone, f"{(place + 0.14) * slot:.3f}", f"{y:.2f}", f"{0.72 * slot:.3f}", f"{part:.2f}")
            for which, place, y, part in scales.stacked([one.values for one in series], top)
        ),
    )


# What is around them


def _figure(title: str, summary: str, plot: SafeString, series: Sequence[Series], table: SafeString) -> SafeString:
    return format_html(
        '<figure class="chart"><figcaption class="chart-head"><span class="chart-title">{}</span> '
        '<span class="chart-summary">{}</span></figcaption>{}{}{}</figure>',
        title,
        summary,
        plot or format_html('<p class="chart-empty">{}</p>', summary),
        _legend(series) if plot and len(series) > 1 else NOTHING,
        table,
    )


def _plot(
    title: str,
    axis: _Axis,
    values: Sequence[Number],
    series: Sequence[Series],
    marks: Sequence[float],
    shapes: SafeString,
    shown: Shown,
) -> SafeString:
    return format_html(
        '<div class="chart-plot"><div class="chart-scale" aria-hidden="true">{}</div>'
        '<svg class="chart-canvas" role="img" aria-label="{}">{}{}{}</svg>'
        '<svg class="chart-foot" aria-hidden="true">{}</svg></div>',
        format_html_join("", "<span>{}</span>", ((scales.compact(mark),) for mark in reversed(marks))),
        f"{title}. {_summary(axis, values, shown)}.",
        _grid(len(marks)),
        shapes,
        _columns(axis, series, shown),
        _labels(axis),
    )


def _grid(count: int) -> SafeString:
    heights = (f"{100 * place / (count - 1):.4g}%" for place in range(count))
    return format_html_join("", '<line class="chart-grid" x2="100%" y1="{0}" y2="{0}"></line>', ((y,) for y in heights))


def _columns(axis: _Axis, series: Sequence[Series], shown: Shown) -> SafeString:
    """Over each value an unseen column that says it under the mouse. For all others there is the table."""
    slot = 100 / len(axis.names)
    return format_html_join(
        "",
        '<rect class="chart-hit" x="{}%" width="{}%" height="100%"><title>{}</title></rect>',
        (
            (f"{place * slot:.3f}", f"{slot:.3f}", f"{name}\n{_said(series, place, shown)}")
            for place, name in enumerate(axis.names)
        ),
    )


def _said(series: Sequence[Series], place: int, shown: Shown) -> str:
    return "\n".join(f"{one.label}: {shown(one.values[place])}" for one in series)


def _labels(axis: _Axis) -> SafeString:
    slot = 100 / len(axis.names)
    placed = (((place + 0.5) * slot, text) for place, text in axis.labels)
    return format_html_join(
        "",
        '<text x="{}%" y="13" text-anchor="{}">{}</text>',
        ((f"{x:.2f}", "start" if x < 5 else "end" if x > 95 else "middle", text) for x, text in placed),
    )


def _legend(series: Sequence[Series]) -> SafeString:
    rows = format_html_join(
        "",
        '<li class="chart-{}"><svg class="chart-key" aria-hidden="true" width="14" height="8">'
        '<rect class="chart-bar" width="14" height="8" rx="2"></rect></svg>{}</li>',
        ((one.tone, one.label) for one in series),
    )
    return format_html('<ul class="legend">{}</ul>', rows)


def _table(title: str, axis: _Axis, series: Sequence[Series], shown: Shown) -> SafeString:
    head = format_html_join("", '<th scope="col" class="num">{}</th>', ((one.label,) for one in series))
    rows = format_html_join(
        "",
        '<tr><th scope="row">{}</th>{}</tr>',
        ((name, _cells(series, place, shown)) for place, name in reversed(list(enumerate(axis.names)))),
    )
    return format_html(
        '<details class="chart-data"><summary>{}</summary><div class="table-box" tabindex="0" role="region" '
        'aria-label="{}"><table class="table"><thead><tr><th scope="col">{}</th>{}</tr></thead>'
        "<tbody>{}</tbody></table></div></details>",
        _("Numbers"),
        title,
        axis.head,
        head,
        rows,
    )


def _cells(series: Sequence[Series], place: int, shown: Shown) -> SafeString:
    return format_html_join("", '<td class="num">{}</td>', ((shown(one.values[place]),) for one in series))
