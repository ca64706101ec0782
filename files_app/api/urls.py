from django.urls import path

from files_app.api.uploads import CancelUpload, CompleteUpload, UploadParts, Uploads
from files_app.api.views import File, FileContent, Files

urlpatterns = [
    path("files", Files.as_view()),
    path("files/<str:file_id>", File.as_view()),
    path("files/<str:file_id>/content", FileContent.as_view()),
    path("uploads", Uploads.as_view()),
    path("uploads/<str:upload_id>/parts", UploadParts.as_view()),
    path("uploads/<str:upload_id>/complete", CompleteUpload.as_view()),
    path("uploads/<str:upload_id>/cancel", CancelUpload.as_view()),
]
