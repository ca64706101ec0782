from django.urls import path

from files_app.console import files

urlpatterns = [
    path("files", files.files, name="files"),
    path("files/<str:public_id>/download", files.download, name="download_file"),
]
