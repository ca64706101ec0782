"""Kinds of admin for rows that are not edited."""

from typing import TypeVar

from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest

Row = TypeVar("Row", bound=Model)


class AddOnlyAdmin(admin.ModelAdmin[Row]):
    def has_change_permission(self, request: HttpRequest, obj: Row | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Row | None = None) -> bool:
        return False


class ReadOnlyAdmin(AddOnlyAdmin[Row]):
    def has_add_permission(self, request: HttpRequest) -> bool:
        return False
