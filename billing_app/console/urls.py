from django.urls import path

from billing_app.console import statement, trail, usage_csv, usage_page

urlpatterns = [
    path("usage", usage_page.usage, name="usage"),
    path("usage.csv", usage_csv.usage_csv, name="usage_csv"),
    path("accounts/<int:pk>/statement/<str:file>", statement.download, name="statement"),
    path("audit", trail.audit, name="audit"),
    path("audit.csv", trail.audit_csv, name="audit_csv"),
]
