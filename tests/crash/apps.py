from pathlib import Path

from django.apps import AppConfig
from django.conf import settings

from tests.crash import points


class CrashPoints(AppConfig):
    name = "tests.crash"
    path = str(Path(__file__).parent)

    def ready(self) -> None:
        points.install(Path(settings.DATA_DIR))
