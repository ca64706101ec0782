"""Refuses what is over a rate limit, and tells every caller where it stands (B9)."""

from typing import Any

from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from billing_app import rate_limits
from billing_app.authentication import Caller
from billing_app.rate_limits import Verdict
from config.api.errors import RateLimited


class AccountThrottle(BaseThrottle):
    # Any, for ApiView: DRF loads this module while it defines the class that ApiView is made from.
    def allow_request(self, request: Request, view: Any) -> bool:
        caller: Caller = request.user  # type: ignore[assignment]  # the stubs know Django's users only
        scope = view.scope
        verdict = rate_limits.hit(caller.account, scope, caller.rate_limits[scope])
        view.headers.update(_headers(verdict))
        if not verdict.is_allowed:
            raise RateLimited(
                f"Rate limit reached for {scope}: limit {verdict.limit} requests per minute. "
                f"Please try again in {duration(verdict.retry_after)}.",
                retry_after=verdict.retry_after,
            )
        return True


def duration(seconds: int) -> str:
    """`59s`, `6m0s`"""
    minutes, seconds = divmod(seconds, 60)
    return f"{minutes}m{seconds}s" if minutes else f"{seconds}s"


def _headers(verdict: Verdict) -> dict[str, str]:
    return {
        "x-ratelimit-limit-requests": str(verdict.limit),
        "x-ratelimit-remaining-requests": str(verdict.remaining),
        "x-ratelimit-reset-requests": duration(verdict.retry_after),
    }
