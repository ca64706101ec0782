from django.apps import AppConfig
from django.contrib.admin import apps as admin_apps


class ConfigConfig(AppConfig):
    name = "config"
    default = True


class DeskAdminConfig(admin_apps.AdminConfig):
    """Named in INSTALLED_APPS in the place of django.contrib.admin."""

    default = False
    default_site = "config.admin_site.Site"
