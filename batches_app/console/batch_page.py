from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from config.console.access import page


@page("batches_app.view_batch")
def batch(request: HttpRequest) -> HttpResponse:
    return render(request, "console/base.html")
