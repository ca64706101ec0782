from django.urls import path

from billing_app.api.views import Costs, Usage

urlpatterns = [
    path("usage", Usage.as_view()),
    path("costs", Costs.as_view()),
]
