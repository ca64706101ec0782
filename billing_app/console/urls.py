from django.urls import path

from billing_app.console import statement, trail, usage_csv, usage_page
from billing_app.console.signing_in import SignIn, SignOut

urlpatterns = [
    path("login", SignIn.as_view(), name="login"),
    path("logout", SignOut.as_view(), name="logout"),
    path("usage", usage_page.usage, name="usage"),
    path("usage.csv", usage_csv.usage_csv, name="usage_csv"),
    path("accounts/<int:pk>/statement/<str:file>", statement.download, name="statement"),
    path("audit", trail.audit, name="audit"),
    path("audit.csv", trail.audit_csv, name="audit_csv"),
]
