from django.contrib import admin
from django.urls import include, path, re_path
from django.views.generic import RedirectView

from config.api.errors import unknown_url
from config.health import healthz

urlpatterns = [
    path("v1/", include("files_app.api.urls")),
    path("v1/", include("batches_app.api.urls")),
    path("v1/", include("billing_app.api.urls")),
    re_path(r"^v1(?:/|$)", unknown_url),
    path("healthz", healthz),
    path("admin/", admin.site.urls),
    path("", RedirectView.as_view(pattern_name="admin:index")),
]
