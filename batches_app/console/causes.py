"""Why a batch waits, in sentences."""

from collections.abc import Callable

from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from batches_app.waiting import Cause, Reason
from config.templatetags.console import moment, visible


def sentence(reason: Reason) -> str:
    return _SENTENCES[reason.cause](reason)


def _validation_waits(reason: Reason) -> str:
    text = _("Its input file has waited to be checked since {time}: no control worker is free.")
    return format_html(text, **_time(reason))


def _validating(reason: Reason) -> str:
    return _("Its input file is being checked, line by line.")


def _paused(reason: Reason) -> str:
    if reason.said:
        text = _("Its model has been paused since {time} ({said}). Nothing is sent until it is resumed.")
    else:
        text = _("Its model has been paused by an operator since {time}. Nothing is sent until it is resumed.")
    return format_html(text, **_time(reason), **_said(reason))


def _down(reason: Reason) -> str:
    text = _("The upstream has been away since {time} ({said}). It is probed until it is back; no line is lost.")
    return format_html(text, **_time(reason), **_said(reason))


def _throttled(reason: Reason) -> str:
    numbers = {"limit": f"{reason.number:,}", "most": f"{reason.most:,}"}
    if reason.said and reason.since:
        text = _(
            "The upstream has throttled since {time} ({said}): {limit} of {most} requests at once are allowed now."
        )
    elif reason.said:
        text = _("The upstream throttles ({said}): {limit} of {most} requests at once are allowed now.")
    else:
        text = _("The upstream throttled: {limit} of {most} requests at once are allowed now, and more bit by bit.")
    return format_html(text, **numbers, **_time(reason), **_said(reason))


def _no_lane(reason: Reason) -> str:
    return _("Its requests are ready, and no lane worker is free to send them.")


def _ahead(reason: Reason) -> str:
    text = ngettext(
        "{n} batch of this account has an earlier deadline and goes first.",
        "{n} batches of this account have an earlier deadline and go first.",
        reason.number,
    )
    return format_html(text, n=f"{reason.number:,}")


def _shared(reason: Reason) -> str:
    text = ngettext(
        "The model is shared with {n} other account; each has its share in turn.",
        "The model is shared with {n} other accounts; each has its share in turn.",
        reason.number,
    )
    return format_html(text, n=f"{reason.number:,}")


def _full(reason: Reason) -> str:
    return format_html(_("The model is at its limit of {most} requests in flight."), most=f"{reason.most:,}")


def _last_answers(reason: Reason) -> str:
    return _("Nothing more is sent. Requests that are in flight have a few seconds to come back.")


def _merge_waits(reason: Reason) -> str:
    text = _("Its result files have waited to be written since {time}: no control worker is free.")
    return format_html(text, **_time(reason))


def _merging(reason: Reason) -> str:
    return _("Its result files are being written.")


_SENTENCES: dict[Cause, Callable[[Reason], str]] = {
    Cause.VALIDATION_WAITS: _validation_waits,
    Cause.VALIDATING: _validating,
    Cause.PAUSED: _paused,
    Cause.UPSTREAM_DOWN: _down,
    Cause.THROTTLED: _throttled,
    Cause.NO_LANE: _no_lane,
    Cause.AHEAD: _ahead,
    Cause.SHARED: _shared,
    Cause.FULL: _full,
    Cause.LAST_ANSWERS: _last_answers,
    Cause.MERGE_WAITS: _merge_waits,
    Cause.MERGING: _merging,
}


def _said(reason: Reason) -> dict[str, str]:
    """By the upstream."""
    return {"said": visible(reason.said, 160).rstrip(".") or "?"}


def _time(reason: Reason) -> dict[str, SafeString]:
    return {"time": moment(reason.since)}
