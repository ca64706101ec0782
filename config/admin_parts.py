"""Small pieces of HTML that lists and panels are made of; static/batchdesk/admin.css gives them their looks."""

from decimal import Decimal

from django.urls import reverse
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString

NONE = "—"
WARNING, DANGER = 80, 100  # per cent of a limit


def badge(text: object, tone: str = "neutral") -> SafeString:
    return format_html('<span class="badge badge-{}">{}</span>', tone, text)


def link(url: str, text: object) -> SafeString:
    return format_html('<a href="{}">{}</a>', url, text)


def code(text: object, url: str = "") -> SafeString:
    """An id, shortened by the stylesheet where there is no room; whole when it is copied."""
    shown = format_html('<code class="id" title="{0}">{0}</code>', text)
    return link(url, shown) if url else shown


def number(value: int) -> SafeString:
    return format_html('<span class="number">{}</span>', f"{value:,}")


def list_url(model: str, **query: str | int) -> str:
    """Of a model's list, filtered: `list_url("billing_app_apikey", account="acme")`."""
    return f"{reverse(f'admin:{model}_changelist')}?{urlencode(query)}"


def console_url(page: str, **query: str) -> str:
    """Of a list in the console, filtered: `console_url("batches", account="acme")`."""
    return f"{reverse(f'console:{page}')}?{urlencode(query)}"


def percent(used: int | Decimal, limit: int | Decimal) -> int:
    return int(used * 100 / limit) if limit else DANGER


def tone_of(share: int) -> str:
    return "danger" if share >= DANGER else "warning" if share >= WARNING else "ok"


def meter(share: int, text: object, label: str) -> SafeString:
    """A bar with its numbers beside it, so that neither colour nor length has to be read."""
    return format_html(
        '<span class="usage usage-{}"><meter min="0" max="100" value="{}" aria-label="{}"></meter>'
        '<span class="share">{}&nbsp;%</span><span class="usage-text">{}</span></span>',
        tone_of(share),
        min(share, 100),
        f"{label}: {share} % used",
        share,
        text,
    )
