from django.urls import path

from files_app.api.views import File, FileContent, Files

urlpatterns = [
    path("files", Files.as_view()),
    path("files/<str:file_id>", File.as_view()),
    path("files/<str:file_id>/content", FileContent.as_view()),
]
