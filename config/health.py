from django.http import HttpRequest, HttpResponse


def healthz(request: HttpRequest) -> HttpResponse:
    """The process answers. No database: a restart of the web process would not cure that."""
    return HttpResponse("ok", content_type="text/plain")
