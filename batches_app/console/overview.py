"""The overview: what is wrong and where, what runs, what gets done, what it costs."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from batches_app import attention, health, queue, throughput
from batches_app.console import concerns
from batches_app.models import Batch
from batches_app.throughput import Throughput
from billing_app import daily
from billing_app.pricing import add
from config.console.access import page
from config.console.charts import Series, area

MONEY = "billing_app.view_ledgerentry"
HOURS = tuple(throughput.STEPS)


class Form(forms.Form):
    hours = forms.ChoiceField(choices=[(str(hours), hours) for hours in HOURS], required=False)


@dataclass(frozen=True, slots=True)
class Spend:
    today: Decimal
    month: Decimal


@page("batches_app.view_batch")
def overview(request: HttpRequest) -> HttpResponse:
    form = Form(request.GET)
    hours = int(form.cleaned_data["hours"] or HOURS[0]) if form.is_valid() else HOURS[0]
    context = {"form": form, "hours": hours, "all_hours": HOURS, **_found(request, hours, timezone.now())}
    if not context["under_way"].total and not Batch.objects.exists():
        context |= {"is_first": True, "base_url": request.build_absolute_uri("/v1")}
    template = "console/_overview.html" if getattr(request, "htmx", False) else "console/overview.html"
    return render(request, template, context, status=400 if form.errors else 200)


def _found(request: HttpRequest, hours: int, now: datetime) -> dict[str, Any]:
    money = request.user.has_perm(MONEY)
    models = health.of_models(now)
    review = attention.review(models, queue.snapshot(), now, money=money)
    traffic = throughput.of_last(hours, now)
    return {
        "concerns": [concerns.of(item) for item in review.items if concerns.may_see(request.user, item)],
        "checked": [*concerns.CHECKED, *([concerns.CHECKED_MONEY] if money else [])],
        "under_way": review.under_way,
        "models": models,
        "traffic": traffic,
        "charts": _charts(traffic),
        "spend": _spend(now) if money else None,
    }


def _spend(now: datetime) -> Spend:
    today = daily.day_of(now)
    by_day = {day: bill.charged for (day,), bill in daily.usage(today.replace(day=1), today, "day").items()}
    return Spend(by_day.get(today, Decimal(0)), add(by_day.values()))


def _charts(traffic: Throughput) -> list[SafeString]:
    steps = traffic.steps
    times = [step.at for step in steps]
    return [
        area(
            _("Requests per second"),
            times,
            [
                Series(_("All"), [step.lines_per_second for step in steps]),
                Series(_("Failed"), [step.failed_per_second for step in steps], "failed"),
            ],
        ),
        area(
            _("Tokens per minute"),
            times,
            [
                Series(_("All"), [step.tokens_per_minute for step in steps]),
                Series(_("Output"), [step.output_per_minute for step in steps], "info"),
            ],
        ),
    ]
