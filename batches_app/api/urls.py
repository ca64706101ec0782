from django.urls import path

from batches_app.api.views import BatchDetail, Batches, BatchEstimate, CancelBatch, Model, Models

urlpatterns = [
    path("models", Models.as_view()),
    path("models/<path:model_id>", Model.as_view()),
    path("batches", Batches.as_view()),
    path("batches/estimate", BatchEstimate.as_view()),
    path("batches/<str:batch_id>", BatchDetail.as_view()),
    path("batches/<str:batch_id>/cancel", CancelBatch.as_view()),
]
