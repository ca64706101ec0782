"""What pages are made of. Text of tenants is shown by `shown`, and never otherwise than escaped."""

import re
import unicodedata
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from django import template
from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat
from django.templatetags.static import static
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

register = template.Library()

NONE = SafeString("—")
SECONDS = "%Y-%m-%d %H:%M:%S"
SHOWN = 200  # characters of a tenant's text, unless a page has room for more
# With halves of surrogate pairs, which JSON can bring in: no answer with one in it could be sent.
_UNSEEN = re.compile(
    r"[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u2069\ud800-\udfff\ufeff\ufff9-\ufffb"
    r"\U000e0000-\U000e007f]"
)


def visible(text: object, most: int = SHOWN) -> str:
    """A tenant's text for one line: cut, and what is unseen or turns the direction written out (U+202E)."""
    cut = str(text)
    cut = cut if len(cut) <= most else f"{cut[:most]}…"
    return _UNSEEN.sub(lambda found: "\N{OPEN BOX}" if found[0] in "\t\n\r" else f"⟨U+{ord(found[0]):04X}⟩", cut)


register.filter("visible", visible)  # where no element may be: in a title, in an attribute


@register.filter
def shown(text: object, most: int = SHOWN) -> SafeString:
    """Of a tenant, or of an upstream. `bdi`, so that Hebrew and Arabic do not turn what is beside them."""
    if text in (None, ""):
        return NONE
    return format_html('<bdi class="shown">{}</bdi>', visible(unicodedata.normalize("NFC", str(text)), most))


@register.filter
def number(value: int | None) -> str:
    return NONE if value is None else f"{value:,}"


@register.filter
def size(value: Any) -> SafeString:
    if value in (None, ""):  # a template's word for what is not there
        return NONE
    return format_html(
        '<span title="{}">{}</span>', _("%(bytes)s bytes") % {"bytes": f"{value:,}"}, filesizeformat(value)
    )


@register.filter
def moment(at: datetime | None) -> SafeString:
    """In the viewer's zone; UTC on hover."""
    if at is None:
        return NONE
    utc = at.astimezone(UTC)
    # Not Django's date_format: lists have a hundred times and more, and this format is the same in every language.
    local = f"{timezone.localtime(at):{SECONDS}}"
    return format_html('<time datetime="{}" title="{}">{}</time>', utc.isoformat(), f"{utc:{SECONDS}} UTC", local)


@register.filter
def ago(at: datetime | None) -> SafeString:
    """How long since (or until), with the moment on hover."""
    if at is None:
        return NONE
    left = at - timezone.now()
    text = (
        _("in %(span)s") % {"span": span_text(left)}
        if left > timedelta(0)
        else _("%(span)s ago") % {"span": span_text(-left)}
    )
    utc = at.astimezone(UTC)
    title = f"{timezone.localtime(at):{SECONDS}} · {utc:{SECONDS}} UTC"
    return format_html('<time datetime="{}" title="{}">{}</time>', utc.isoformat(), title, text)


@register.filter
def span(value: timedelta | float | None) -> str:
    if value is None:
        return NONE
    return span_text(value if isinstance(value, timedelta) else timedelta(seconds=value))


def span_text(value: timedelta) -> str:
    """In its two largest units: 2 d 3 h, 4 min 5 s."""
    seconds = max(0, round(value.total_seconds()))
    days, hours, minutes = seconds // 86400, seconds // 3600 % 24, seconds // 60 % 60
    if days:
        return _("%(days)d d %(hours)d h") % {"days": days, "hours": hours}
    if hours:
        return _("%(hours)d h %(minutes)d min") % {"hours": hours, "minutes": minutes}
    if minutes:
        return _("%(minutes)d min %(seconds)d s") % {"minutes": minutes, "seconds": seconds % 60}
    return _("%(seconds)d s") % {"seconds": seconds}


@register.simple_tag
def icon(name: str) -> SafeString:
    return format_html(
        '<svg class="icon" aria-hidden="true" width="16" height="16"><use href="{}#{}"></use></svg>',
        static("console/vendor/icons.svg"),
        name,
    )


@register.simple_tag
def badge(text: object, tone: str = "neutral") -> SafeString:
    """`tone`: ok, info, warning, danger or neutral. The text says it too: colour is never alone."""
    return format_html('<span class="badge badge-{}">{}</span>', tone, text)


@register.simple_tag
def share(part: int | Decimal | float, whole: int | Decimal | float) -> str:
    """In per cent; what is something is never shown as nothing, nor what is less than all as all."""
    if not whole:
        return NONE
    percent = float(part) * 100 / float(whole)
    if 0 < percent < 0.1:
        return "<0.1 %"
    if 99.9 < percent < 100:
        return ">99.9 %"
    return f"{percent:.0f} %" if percent == round(percent) or percent >= 10 else f"{percent:.1f} %"


@register.simple_tag
def progress(completed: int, failed: int, total: int) -> SafeString:
    """A bar in three parts, done, failed and left, and what it says in words beside it."""
    done = completed + failed
    label = ngettext("%(done)s of %(total)s request", "%(done)s of %(total)s requests", total) % {
        "done": f"{done:,}",
        "total": f"{total:,}",
    }
    if failed:
        label += " · " + _("%(failed)s failed") % {"failed": f"{failed:,}"}
    width = 100 / total if total else 0
    return format_html(
        '<span class="progress"><svg class="bar" role="img" aria-label="{0}" viewBox="0 0 100 6" '
        'preserveAspectRatio="none"><rect class="bar-left" width="100" height="6"></rect>'
        '<rect class="bar-done" width="{1}" height="6"></rect>'
        '<rect class="bar-failed" x="{1}" width="{2}" height="6"></rect></svg>'
        '<span class="progress-text">{0}</span></span>',
        label,
        f"{completed * width:.2f}",
        f"{failed * width:.2f}",
    )


@register.simple_tag
def meter(used: int | Decimal, limit: int | Decimal, text: object = "") -> SafeString:
    """How much of a limit is used; from 80 % on it warns."""
    percent = int(used * 100 / limit) if limit else 100
    tone = "danger" if percent >= 100 else "warning" if percent >= 80 else "ok"
    return format_html(
        '<span class="meter meter-{0}"><svg class="bar" role="img" aria-label="{1}" viewBox="0 0 100 6" '
        'preserveAspectRatio="none"><rect class="bar-left" width="100" height="6"></rect>'
        '<rect class="bar-used" width="{2}" height="6"></rect></svg>'
        '<span class="progress-text">{1} · {3}</span></span>',
        tone,
        f"{percent} %",
        min(100, percent),
        text,
    )


@register.simple_tag(takes_context=True)
def query(context: dict[str, Any], **changes: Any) -> str:
    """The page's own address with other parameters: `?{% query sort="deadline" after=None %}`."""
    request: HttpRequest = context["request"]
    params = request.GET.copy()
    for name, value in changes.items():
        params.pop(name, None)
        if value not in (None, ""):
            params[name] = str(value)
    return params.urlencode()


@register.simple_tag
def copied(text: str, url: str = "") -> SafeString:
    """An id with a button that copies it whole."""
    code = format_html("<code>{}</code>", text)
    return format_html(
        '<span class="id">{}<button type="button" class="copy" data-copy="{}" aria-label="{}" hidden>{}</button>'
        "</span>",
        format_html('<a href="{}">{}</a>', url, code) if url else code,
        text,
        _("Copy %(text)s") % {"text": text},
        icon("copy"),
    )
