"""Models: how each one is, what it has to do, and how it is paused, resumed and probed."""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime

from django import forms
from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from batches_app import health, routing, throughput
from batches_app.console import conditions
from batches_app.health import Demand, Health, State
from batches_app.models import ServedModel
from billing_app import audit, prices
from billing_app.models import Price
from billing_app.pricing import plain
from config.console.access import page
from config.console.charts import sparkline
from config.templatetags.console import visible

MAY_PAUSE = "batches_app.pause_servedmodel"


class ListForm(forms.Form):
    state = forms.ChoiceField(
        label=gettext_lazy("State"), required=False, choices=[(state, conditions.label(state)) for state in State]
    )


class PauseForm(forms.Form):
    reason = forms.CharField(label=gettext_lazy("Why"), max_length=500)


@dataclass(frozen=True, slots=True)
class Card:
    health: Health
    demand: Demand
    price: Price | None
    past: str  # a sparkline
    form: PauseForm

    @property
    def upstream(self) -> str:
        return health.without_credentials(self.health.model.upstream_url)

    @property
    def is_probing(self) -> bool:
        asked, probed = self.health.model.probe_asked_at, self.health.model.probed_at
        return asked is not None and (probed is None or probed < asked)

    @property
    def rates(self) -> dict[str, str] | None:
        """As the price has them, exactly: per million tokens, before the batch discount."""
        if self.price is None:
            return None
        names = ("input_price", "output_price", "batch_discount")
        return {name: plain(getattr(self.price, name)) for name in names} | {"currency": self.price.currency}


@page("batches_app.view_servedmodel")
def models(request: HttpRequest) -> HttpResponse:
    form = ListForm(request.GET)
    status = 200 if form.is_valid() else 400
    return _page(request, form, {}, status)


def _page(request: HttpRequest, form: ListForm, refused: dict[int, PauseForm], status: int) -> HttpResponse:
    """`refused`: what was sent to pause a model, by its key."""
    now = timezone.now()
    found = health.of_models(now)
    wanted = form.cleaned_data.get("state")
    shown = [one for one in found if one.state == wanted] if wanted else found
    context = {
        "form": form,
        "wanted": wanted,
        "count": len(found),
        "states": _counted(found),
        "cards": _cards(shown, refused, now),
        "may_pause": request.user.has_perm(MAY_PAUSE),
    }
    template = "console/_models.html" if getattr(request, "htmx", False) else "console/models.html"
    return render(request, template, context, status=status)


def _counted(found: list[Health]) -> list[tuple[State, int]]:
    counts = Counter(one.state for one in found)
    return [(state, counts[state]) for state in State if counts[state]]


def _cards(found: list[Health], refused: dict[int, PauseForm], now: datetime) -> list[Card]:
    price = prices.in_force([one.model.name for one in found], now)
    demand, past = health.demand(), throughput.of_models(now)
    return [
        Card(
            health=one,
            demand=demand.get(one.model.pk, Demand()),
            price=price.get(one.model.name),
            past=_drawn(past.get(one.model.pk, [])),
            form=refused.get(one.model.pk) or PauseForm(prefix=f"model-{one.model.pk}"),
        )
        for one in found
    ]


def _drawn(lines: list[int]) -> str:
    return (
        sparkline(lines, _("Requests in each minute of the last hour; most: %(most)s") % {"most": max(lines)})
        if any(lines)
        else ""
    )


# What an operator does to a model


@page("batches_app.view_servedmodel", MAY_PAUSE, methods=["POST"])
def pause_model(request: HttpRequest, pk: int) -> HttpResponse:
    model = get_object_or_404(ServedModel, pk=pk)
    form = PauseForm(request.POST, prefix=f"model-{pk}")
    if not form.is_valid():
        everything = ListForm({})
        everything.full_clean()
        return _page(request, everything, {pk: form}, status=400)
    now = timezone.now()
    with transaction.atomic():
        reason = form.cleaned_data["reason"]
        paused = routing.pause(model, by=request.user.get_username(), reason=reason, now=now)
        if paused:
            _record(request, model, "paused", {"paused_at": (None, now)}, reason)
    said = _("%(model)s is paused: nothing more is sent to it.") if paused else _("%(model)s was paused already.")
    return _back(request, model, said)


@page("batches_app.view_servedmodel", MAY_PAUSE, methods=["POST"])
def resume_model(request: HttpRequest, pk: int) -> HttpResponse:
    model, now = get_object_or_404(ServedModel, pk=pk), timezone.now()
    with transaction.atomic():
        resumed = routing.resume(model, now=now)
        if resumed:
            _record(request, model, "resumed", {"paused_at": (model.paused_at, None)})
    said = _("%(model)s is resumed: its batches go on.") if resumed else _("%(model)s was not paused.")
    return _back(request, model, said)


@page("batches_app.view_servedmodel", MAY_PAUSE, methods=["POST"])
def probe_model(request: HttpRequest, pk: int) -> HttpResponse:
    model, now = get_object_or_404(ServedModel, pk=pk), timezone.now()
    with transaction.atomic():
        if routing.ask_probe(model, now=now):
            _record(request, model, "probed")
    return _back(request, model, _("%(model)s is being probed. What came of it appears here."))


def _record(
    request: HttpRequest, model: ServedModel, verb: str, changes: audit.Changes | None = None, reason: str = ""
) -> None:
    audit.record(**audit.by(request), action=f"model.{verb}", target=model, changes=changes, reason=reason)


def _back(request: HttpRequest, model: ServedModel, said: str) -> HttpResponse:
    messages.success(request, said % {"model": visible(model.name, 64)})
    return redirect(f"{reverse('console:models')}#model-{model.pk}")
