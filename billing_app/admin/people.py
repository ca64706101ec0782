"""Operators and their groups: who may do what is as good as money."""

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.forms import UserChangeForm
from django.contrib.auth.models import Group, User
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.utils.safestring import SafeString

from billing_app.audited import AuditedAdmin, WhyMixin
from config.admin_parts import badge

if TYPE_CHECKING:  # only the stubs know these as generic
    Form = UserChangeForm[User]
    Admin = UserAdmin[User]
else:
    Form, Admin = UserChangeForm, UserAdmin

admin.site.unregister([User, Group])


class OperatorForm(WhyMixin, Form):
    pass


@admin.register(User)
class OperatorAdmin(AuditedAdmin, Admin):
    form = OperatorForm
    audit_noun = "operator"
    list_display = ["username", "role", "state", "email", "last_login"]
    list_filter = ["groups", "is_active", "is_staff", "is_superuser"]
    readonly_fields = ["last_login", "date_joined"]

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).prefetch_related("groups")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        # Else who may edit operators could make a superuser of anybody, and of themselves.
        return [*self.readonly_fields, *([] if request.user.is_superuser else ["is_superuser"])]

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_change_permission(request, obj) and _may_touch(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_delete_permission(request, obj) and _may_touch(request, obj)

    @admin.display(description="role")
    def role(self, user: User) -> str:
        names = [group.name for group in user.groups.all()]
        return ", ".join(["superuser"] * user.is_superuser + names) or "none"

    @admin.display(description="state", ordering="is_active")
    def state(self, user: User) -> SafeString:
        if not user.is_active:
            return badge("disabled", "danger")
        return badge("active", "ok") if user.is_staff else badge("not staff", "warning")

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:
        if request.method != "POST":
            return super().user_change_password(request, id, form_url)
        with transaction.atomic():
            answer: HttpResponse = super().user_change_password(request, id, form_url)
            if answer.status_code == 302 and (user := self.get_object(request, id)):
                changes = {"password": (None, None)}
                self.audit(request, user, "password_changed", changes)
        return answer


@admin.register(Group)
class RoleAdmin(AuditedAdmin, GroupAdmin):
    audit_noun = "group"
    fieldsets = [(None, {"fields": ["name", "permissions"]})]


def _may_touch(request: HttpRequest, user: User | None) -> bool:
    return user is None or not user.is_superuser or bool(getattr(request.user, "is_superuser", False))
