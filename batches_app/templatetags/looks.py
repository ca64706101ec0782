"""States in templates: `{% status batch.status %}` is the badge of a batch."""

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import ngettext

from batches_app.console import looks
from batches_app.models import Operation
from config.templatetags.console import badge

register = template.Library()
register.filter("kind_label", looks.kind_label)
register.filter("status_label", looks.label)
register.filter("status_tone", looks.tone)
register.filter("operation_title", looks.operation_title)


@register.simple_tag
def status(value: str) -> SafeString:
    return badge(looks.label(value), looks.tone(value))


@register.simple_tag
def operation_state(value: str) -> SafeString:
    return badge(looks.operation_label(value), looks.operation_tone(value))


@register.simple_tag
def operation_progress(operation: Operation) -> SafeString:
    numbers = {"done": f"{operation.position:,}", "total": f"{operation.total:,}"}
    if operation.kind == looks.Kind.RETRY:
        text = ngettext("%(done)s of %(total)s line", "%(done)s of %(total)s lines", operation.total)
    else:
        text = ngettext("%(done)s of %(total)s batch", "%(done)s of %(total)s batches", operation.total)
    width = 100 * operation.position / operation.total if operation.total else 0
    return format_html(
        '<span class="progress"><svg class="bar" role="img" aria-label="{0}" viewBox="0 0 100 6" '
        'preserveAspectRatio="none"><rect class="bar-left" width="100" height="6"></rect>'
        '<rect class="bar-done" width="{1}" height="6"></rect></svg><span class="progress-text">{0}</span></span>',
        text % numbers,
        f"{width:.2f}",
    )
