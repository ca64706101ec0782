from django.contrib.auth.views import LogoutView
from django.urls import path

from config.console.views import Login, preferences

urlpatterns = [
    path("login", Login.as_view(), name="login"),
    path("logout", LogoutView.as_view(), name="logout"),
    path("preferences", preferences, name="preferences"),
]
