from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from config.console.access import page


@page("billing_app.view_auditentry")
def audit(request: HttpRequest) -> HttpResponse:
    return render(request, "console/base.html")
