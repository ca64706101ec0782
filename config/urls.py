from django.contrib import admin
from django.urls import include, path, re_path
from django.views.generic import RedirectView

from batches_app.console import rq_dashboard
from batches_app.console import urls as batches
from batches_app.watching import doors
from billing_app.console import urls as billing
from config.api.errors import unknown_url
from config.api.schema_document import openapi_json
from config.console import urls as shared
from config.console.reference import api_reference
from config.health import healthz
from files_app.console import urls as files

console = [*shared.urlpatterns, *billing.urlpatterns, *files.urlpatterns, *batches.urlpatterns]

urlpatterns = [
    path("v1/", include("files_app.api.urls")),
    path("v1/", include("batches_app.api.urls")),
    path("v1/", include("billing_app.api.urls")),
    path("v1/openapi.json", openapi_json),
    re_path(r"^v1(?:/|$)", unknown_url),
    path("docs", api_reference),
    path("healthz", healthz),
    path("readyz", doors.readyz),
    path("metrics", doors.metrics),
    path("console/", include((console, "console"))),
    path("console/rq/", include((rq_dashboard.urlpatterns, "django_rq"))),
    path("admin/", admin.site.urls),
    path("", RedirectView.as_view(pattern_name="console:overview")),
]

handler403 = "config.console.views.forbidden"
