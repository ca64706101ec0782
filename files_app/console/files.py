from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from config.console.access import page


@page("files_app.view_storedfile")
def files(request: HttpRequest) -> HttpResponse:
    return render(request, "console/base.html")
