from django.urls import path

from billing_app.console import trail, usage_page

urlpatterns = [
    path("usage", usage_page.usage, name="usage"),
    path("audit", trail.audit, name="audit"),
]
