"""Workers and queues: who runs what, what waits, and what the reconciler had to heal."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone

from batches_app import queue, workforce
from config.console.access import page


@page("batches_app.view_lane")
def workers(request: HttpRequest) -> HttpResponse:
    now, snapshot = timezone.now(), queue.snapshot()
    reconciliation, lanes = workforce.reconciliation(), workforce.lanes(snapshot, now)
    context = {
        "snapshot": snapshot,
        "workers": workforce.workers(snapshot, lanes, now),
        "unheard": workforce.unheard(snapshot, now),
        "lanes": lanes,
        "oldest": workforce.oldest_waiting(),
        "last_run": reconciliation.last,
        "is_silent": workforce.is_silent(reconciliation.last, now),
        "healings": reconciliation.healings,
        "operations": workforce.operations(),
    }
    template = "console/_workers.html" if getattr(request, "htmx", False) else "console/workers.html"
    return render(request, template, context)
