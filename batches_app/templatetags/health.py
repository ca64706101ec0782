"""The health of models in templates."""

from datetime import UTC, datetime

from django import template
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from batches_app.console import conditions
from batches_app.health import State
from config.console.scales import short, significant
from config.templatetags.console import NONE, badge, span_text

register = template.Library()
register.filter("healed", conditions.healed)
register.filter("compact", short)


@register.filter
def state_label(state: State) -> object:
    return conditions.label(state)


@register.simple_tag
def model_state(state: State) -> SafeString:
    return badge(conditions.label(state), conditions.tone(state))


@register.filter
def rate(value: float) -> str:
    """Two decimals at most: 0.07, 12.5, 1,234. What is something is never shown as nothing."""
    if 0 < value < 0.01:
        return "<0.01"
    return f"{value:.2f}".rstrip("0").rstrip(".") if value < 10 else significant(value)


@register.filter
def lasting(since: datetime) -> SafeString:
    """For how long, with the moment on hover."""
    utc = since.astimezone(UTC)
    title = f"{timezone.localtime(since):%Y-%m-%d %H:%M:%S} · {utc:%Y-%m-%d %H:%M:%S} UTC"
    text = span_text(timezone.now() - since)
    return format_html('<time datetime="{}" title="{}">{}</time>', utc.isoformat(), title, text)


@register.filter
def latency(seconds: float | None) -> str:
    """340 ms, 1.25 s, 75 s."""
    if seconds is None:
        return NONE
    if seconds < 1:
        return _("%(number)s ms") % {"number": round(seconds * 1000)}
    return _("%(number)s s") % {"number": f"{seconds:.3g}" if seconds < 100 else f"{seconds:,.0f}"}


@register.simple_tag
def capacity(in_flight: int, limit: int, most: int) -> SafeString:
    """A bar of what is in flight, of what may be now, and of what may be at most; and the same in words."""
    words = (
        _("%(in_flight)s of %(most)s in flight")
        if limit >= most
        else _("%(in_flight)s in flight, %(limit)s of %(most)s allowed now")
    )
    text = words % {"in_flight": f"{in_flight:,}", "limit": f"{limit:,}", "most": f"{most:,}"}
    width = 100 / max(1, most)
    return format_html(
        '<span class="capacity"><svg class="bar" role="img" aria-label="{0}" viewBox="0 0 100 6" '
        'preserveAspectRatio="none"><rect class="bar-left" width="100" height="6"></rect>'
        '<rect class="bar-allowed" width="{1}" height="6"></rect><rect class="bar-used" width="{2}" height="6"></rect>'
        '</svg><span class="progress-text">{0}</span></span>',
        text,
        f"{min(100, limit * width):.2f}",
        f"{min(100, in_flight * width):.2f}",
    )
