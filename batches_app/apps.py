from django.apps import AppConfig
from django.core import checks


class BatchesConfig(AppConfig):
    name = "batches_app"
    verbose_name = "Models and batches"

    def ready(self) -> None:
        from batches_app.checks import check_prices, check_upstreams  # its models are there only now

        checks.register(check_prices, checks.Tags.database)
        checks.register(check_upstreams, checks.Tags.database)
