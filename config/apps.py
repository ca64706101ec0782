from django.apps import AppConfig
from django.contrib.admin import apps as admin_apps
from django.core import checks

from config.checks import check_https


class ConfigConfig(AppConfig):
    name = "config"
    default = True

    def ready(self) -> None:
        checks.register(check_https, checks.Tags.security, deploy=True)


class DeskAdminConfig(admin_apps.AdminConfig):
    """Named in INSTALLED_APPS in the place of django.contrib.admin."""

    default = False
    default_site = "config.admin_site.Site"
