from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from config.console.access import page


@page("billing_app.view_ledgerentry")
def usage(request: HttpRequest) -> HttpResponse:
    return render(request, "console/base.html")
