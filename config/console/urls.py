from django.urls import path

from config.console.views import preferences

urlpatterns = [
    path("preferences", preferences, name="preferences"),
]
