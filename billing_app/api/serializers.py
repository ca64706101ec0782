from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from django.conf import settings
from django.http import QueryDict

from billing_app.pricing import Bill, plain
from billing_app.usage import Bucket
from config.api.errors import InvalidValue, MissingParameter
from config.api.fields import integer, unix

MOST_DAYS = 180
TIMES = range(253_370_764_801)  # until the year 9999 begins; later ones overflow
DAY = "day"


@dataclass(frozen=True, slots=True)
class Report:
    """`models` are the words of `group_by` that tell models apart."""

    models: tuple[str, ...]
    as_wire: Callable[[str | None, Bill], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Query:
    start: datetime
    end: datetime
    by_model: bool
    by_day: bool


def read_query(params: QueryDict, report: Report, *, now: datetime) -> Query:
    groups = _groups(params, (*report.models, DAY))
    first, last = params.get("start_time"), params.get("end_time")
    if not first:
        raise MissingParameter("start_time")
    start = _moment(first, "start_time")
    # Without an end, all that is booked by now, this second included.
    end = _next_second(now) if last is None else _moment(last, "end_time")
    if end <= start:
        param, value = ("start_time", first) if last is None else ("end_time", last)
        raise InvalidValue(param, value, "times of which 'start_time' is before 'end_time'")
    if DAY in groups and end - start > timedelta(days=MOST_DAYS):
        raise InvalidValue("start_time", first, f"ranges of up to {MOST_DAYS} days, by day")
    return Query(start, end, by_model=not groups.isdisjoint(report.models), by_day=DAY in groups)


def page_as_wire(buckets: Iterable[Bucket], report: Report, *, by_model: bool) -> dict[str, Any]:
    data = [_bucket_as_wire(bucket, report, by_model) for bucket in buckets]
    return {"object": "page", "data": data, "has_more": False, "next_page": None}


def _bucket_as_wire(bucket: Bucket, report: Report, by_model: bool) -> dict[str, Any]:
    bills = sorted(bucket.bills.items())
    return {
        "object": "bucket",
        "start_time": unix(bucket.start),
        "end_time": unix(bucket.end),
        "results": [report.as_wire(name if by_model else None, bill) for name, bill in bills],
    }


def _usage_as_wire(model: str | None, bill: Bill) -> dict[str, Any]:
    return {
        "object": "organization.usage.completions.result",
        "input_tokens": bill.tokens.input,
        "output_tokens": bill.tokens.output,
        "input_cached_tokens": bill.tokens.cached,
        "input_audio_tokens": 0,
        "output_audio_tokens": 0,
        "num_model_requests": bill.requests,
        "project_id": None,
        "user_id": None,
        "api_key_id": None,
        "model": model,
        "batch": True,
        "service_tier": None,
    }


def _cost_as_wire(model: str | None, bill: Bill) -> dict[str, Any]:
    # Written as it is: a float would bend an amount of more than 15 digits.
    amount = {"value": msgspec.Raw(plain(bill.charged).encode()), "currency": settings.CURRENCY.lower()}
    return {"object": "organization.costs.result", "amount": amount, "line_item": model, "project_id": None}


USAGE = Report(("model",), _usage_as_wire)
COSTS = Report(("line_item", "model"), _cost_as_wire)


def _groups(params: QueryDict, supported: Sequence[str]) -> set[str]:
    """Repeated, by comma, or with the brackets that the SDKs write."""
    values = params.getlist("group_by") + params.getlist("group_by[]")
    groups = [part.strip() for value in values for part in value.split(",") if part.strip()]
    for group in groups:
        if group not in supported:
            raise InvalidValue("group_by", group, ", ".join(f"'{name}'" for name in supported))
    return set(groups)


def _moment(value: str, param: str) -> datetime:
    return datetime.fromtimestamp(integer(value, param, TIMES), UTC)


def _next_second(now: datetime) -> datetime:
    return datetime.fromtimestamp(int(now.timestamp()) + 1, UTC)
