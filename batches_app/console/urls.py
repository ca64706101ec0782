from django.urls import path

from batches_app.console import accounts, batch_list, batch_page, models_page, operations, overview, workers

urlpatterns = [
    path("", overview.overview, name="overview"),
    path("batches", batch_list.batches, name="batches"),
    path("batches/<str:public_id>", batch_page.batch, name="batch"),
    path("operations", operations.operations, name="operations"),
    path("accounts", accounts.accounts, name="accounts"),
    path("models", models_page.models, name="models"),
    path("workers", workers.workers, name="workers"),
]
